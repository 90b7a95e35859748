"""Rates of copying on and to a device, and the time of encrypting on it against copying on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import Bench
from benchmarks.common.contestants import UnavailableError
from benchmarks.common.devices import median_seconds, torch_device
from benchmarks.common.measure import interleaved
from lcve_deploy import PlainClip, encrypt

_COPIED = 2**31


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
    """Encrypting clips that are on the device against copying their memory there: CuPy, or NumPy on a CPU."""
    values, wait, copy = _on_device(clips, device)
    plain, orders = PlainClip(values=values), bench.client.orders
    same = np.array_equal(_to_host(encrypt(plain, orders).values), encrypt(PlainClip(values=clips), orders).values)
    ratio = interleaved(lambda: (copy(), wait()), lambda: (encrypt(plain, orders), wait()), pairs=10 * pairs, warm_up=5)
    return {"clips": len(clips), "same_as_numpy": same, **asdict(ratio)}


def _on_device(clips: npt.NDArray[np.uint8], device: str) -> tuple[Any, Callable[[], object], Callable[[], object]]:
    """Return the clips there, what waits for the device, and what copies the memory of the clips to new memory."""
    if device == "cpu":
        return clips, lambda: None, clips.copy
    import cupy

    values, stream = cupy.asarray(clips), cupy.cuda.get_current_stream()

    def copy() -> None:  # the copy() of CuPy's arrays is a kernel of one byte a thread, many times slower
        cupy.empty_like(values).data.copy_from_device_async(values.data, values.nbytes, stream)

    return values, stream.synchronize, copy


def _to_host(values: Any) -> npt.NDArray[np.uint8]:
    return values if isinstance(values, np.ndarray) else values.get()
