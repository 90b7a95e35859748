"""The matrix-product peak of a device in a precision, and the time of encrypting on it against copying on it."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from bench import Bench
from contestants import UnavailableError
from gpu_torch import DTYPES, median_seconds, torch_device
from measure import Work, interleaved, seconds

from lcve_deploy import PlainClip, encrypt
from lcve_deploy.model.precision import Precision

_SQUARES = {"cuda": 8192, "cpu": 512}
_TIMES = 10
_COPIED = 2**31


def matmul_peak(device: str, precision: Precision) -> dict[str, Any]:
    """Operations a second of a large square product; float32 without TF32."""
    size = _SQUARES[device]
    has_torch = torch_device(device) == device
    product = _in_torch(size, device, precision) if has_torch else _in_cupy(size, precision)
    product()
    rate = 2 * size**3 / median(seconds(product) for _ in range(_TIMES))
    return {"rate": rate, "library": "PyTorch" if has_torch else "CuPy"}


def _in_torch(size: int, device: str, precision: Precision) -> Work:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    return product


def _in_cupy(size: int, precision: Precision) -> Work:
    import cupy

    if precision is Precision.BF16:
        raise UnavailableError("CuPy has no bf16, and this PyTorch has no CUDA")
    dtype = {Precision.FP32: cupy.float32, Precision.FP16: cupy.float16}[precision]
    left, right = (cupy.random.standard_normal((size, size), dtype=cupy.float32).astype(dtype) for _ in range(2))

    def product() -> None:
        cupy.matmul(left, right)
        cupy.cuda.get_current_stream().synchronize()

    return product


def copy_rates(device: str) -> dict[str, float]:
    """Bytes a second: copies on the card, read and written; and copies to it from pageable and from pinned memory."""
    import torch

    if device == "cpu" or torch_device(device) == "cpu":
        raise UnavailableError("there is no card to copy to")
    there = torch.empty(_COPIED, dtype=torch.uint8, device=device).random_(0, 255)
    pageable = torch.empty(_COPIED // 8, dtype=torch.uint8)
    pinned = pageable.pin_memory()
    works = {
        "on_card": (2 * there.nbytes, lambda: there.clone()),
        "from_pageable": (pageable.nbytes, lambda: pageable.to(device)),
        "from_pinned": (pinned.nbytes, lambda: pinned.to(device, non_blocking=True)),
    }
    return {name: size / median_seconds(work, device) for name, (size, work) in works.items()}


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
