"""The PyTorch model on cubes: scrambled weights, or plain ones with the normalisation folded in."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from measure import seconds
from models import Size, videomae
from torch import Tensor, nn
from torch.nn.functional import linear

from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import ScrambledTransformer

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


def plain_in_bf16(size: Size, batches: tuple[int, ...], device: str) -> dict[str, dict[str, float]]:
    """Clips a second of the plain model, all of it in bf16, clips on the card: what there is without this package."""
    model = videomae(size).to(device, torch.bfloat16)
    found: dict[str, dict[str, float]] = {}
    for mode, run in {"eager": model, "torch.compile": torch.compile(model)}.items():
        found[mode] = {}
        for batch in batches:
            shape = (batch, 3, size.frames, size.pixels, size.pixels)
            clips = torch.randn(shape, device=device, dtype=torch.bfloat16)
            with torch.inference_mode():
                found[mode][str(batch)] = batch / median_seconds(partial(run, clips), device)
    return found


class CubeModel(nn.Module):
    """uint8 ``[batch, N, L]`` to logits; the embedding in float32, the rest as autocast has it."""

    def __init__(self, model: ScrambledTransformer, size: Size, precision: Precision, device: str) -> None:
        super().__init__()
        self._device, self._dtype = device, DTYPES[precision]
        self._rest = videomae(size)
        for name in ("cube_embedding.weight", "cube_embedding.bias", "positional_encoding"):
            values = torch.from_numpy(np.ascontiguousarray(model.weights[name], np.float32))
            self.register_buffer(name.replace(".", "_"), values)

    def forward(self, cubes: Tensor) -> Tensor:
        x = linear(cubes.float(), self.cube_embedding_weight, self.cube_embedding_bias) + self.positional_encoding
        with torch.autocast(self._device, dtype=self._dtype, enabled=self._dtype != torch.float32):
            for block in self._rest.blocks:
                x = block(x)
        return self._rest.head(self._rest.fc_norm(x.float().mean(1)))
