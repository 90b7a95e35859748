"""The matrix-product peak of a device in a precision, and the time of encrypting on it against copying on it."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from bench import Bench
from measure import interleaved, seconds

from lcve_deploy import PlainClip, encrypt
from lcve_deploy.precision import Precision

_SQUARES = {"cuda": 8192, "cpu": 512}
_TIMES = 10


def matmul_peak(device: str, precision: Precision) -> float:
    """Operations a second of a large square product in PyTorch; float32 without TF32."""
    import torch
    from gpu_torch import DTYPES

    size = _SQUARES[device]
    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    product()
    return 2 * size**3 / median(seconds(product) for _ in range(_TIMES))


def encryption(bench: Bench, clips: npt.NDArray[np.uint8], device: str, pairs: int) -> dict[str, Any]:
    """Encrypting clips that are on the device against copying them there: CuPy, or NumPy on a CPU."""
    values, wait = _on_device(clips, device)
    plain, orders = PlainClip(values=values), bench.client.orders
    same = np.array_equal(_to_host(encrypt(plain, orders).values), encrypt(PlainClip(values=clips), orders).values)
    ratio = interleaved(
        lambda: (values.copy(), wait()), lambda: (encrypt(plain, orders), wait()), pairs=10 * pairs, warm_up=5
    )
    return {"clips": len(clips), "same_as_numpy": same, **asdict(ratio)}


def _on_device(clips: npt.NDArray[np.uint8], device: str) -> tuple[Any, Any]:
    if device == "cpu":
        return clips, lambda: None
    import cupy

    return cupy.asarray(clips), lambda: cupy.cuda.get_current_stream().synchronize()


def _to_host(values: Any) -> npt.NDArray[np.uint8]:
    return values if isinstance(values, np.ndarray) else values.get()
