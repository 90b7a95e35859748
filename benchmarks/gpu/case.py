"""What a GPU is asked about one model: clips that differ, and what float64 PyTorch says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common.bench import Bench
from benchmarks.common.devices import torch_device
from benchmarks.common.models import videomae
from lcve_deploy.model.transformer import IMAGENET
from lcve_deploy.samples import real_clips


def many_clips(bench: Bench, count: int) -> npt.NDArray[np.uint8]:
    """Real clips ``[count, T, H, W, C]``, shifted over the picture so that no two are equal."""
    films = real_clips(bench.client.settings.binding.geometry)
    step = max(films.shape[2] // 32, 1)
    return np.stack([np.roll(films[i % len(films)], (step * i, 2 * step * i), axis=(1, 2)) for i in range(count)])


def reference_logits(bench: Bench, clips: npt.NDArray[np.uint8], device: str) -> npt.NDArray[np.float64]:
    """Logits of the plain model in float64, one clip at a time, on the device where PyTorch can."""
    device = torch_device(device)
    module = videomae(bench.size).double().to(device)
    mean, std = (torch.tensor(x, dtype=torch.float64, device=device) for x in (IMAGENET.mean, IMAGENET.std))
    logits = []
    with torch.inference_mode():
        for clip in clips:
            values = (torch.from_numpy(clip).to(device).double() / 255 - mean) / std
            logits.append(module(values.permute(3, 0, 1, 2)[None]).cpu().numpy())
    return np.concatenate(logits)


def agreement(expected: npt.NDArray[np.float64], received: npt.NDArray[Any]) -> dict[str, float]:
    """Largest ``|Δlogit|``, and the share of clips with the same first class."""
    return {
        "difference": float(np.abs(expected - received).max()),
        "top1": float((expected.argmax(1) == received.argmax(1)).mean()),
        "clips": len(expected),
        "logit_scale": float(np.abs(expected).max()),
    }
