"""Devices of PyTorch: which there is, and the time of work on it."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

from benchmarks.common.measure import seconds
from lcve_deploy.model.precision import Precision

_WARM_UP = 1.0
_TIMES = {"cuda": 20, "cpu": 2}
DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def torch_device(device: str) -> str:
    """The device, or the CPU where this PyTorch has no CUDA."""
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


def median_seconds(work: Callable[[], object], device: str) -> float:
    """Of work that has been warmed up for a second on a card, and is waited for."""

    def run() -> None:
        work()
        if device == "cuda":
            torch.cuda.synchronize()

    end = time.perf_counter() + (_WARM_UP if device == "cuda" else 0)
    run()
    while time.perf_counter() < end:
        run()
    return median(seconds(run) for _ in range(_TIMES[device]))
