"""The PyTorch model on cubes: scrambled weights, or plain ones with the normalisation folded in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.common.devices import DTYPES, median_seconds
from benchmarks.common.models import Size, videomae
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import ScrambledTransformer


def plain_in_bf16(size: Size, batches: tuple[int, ...], device: str) -> dict[str, dict[str, float]]:
    """Clips a second of the plain model, all of it in bf16, clips on the card: what there is without this package."""
    model = videomae(size).to(device, torch.bfloat16)
    found: dict[str, dict[str, float]] = {}
    runs: dict[str, Callable[..., Tensor]] = {"eager": model, "torch.compile": torch.compile(model)}
    for mode, run in runs.items():
        found[mode] = {}
        for batch in batches:
            shape = (batch, 3, size.frames, size.pixels, size.pixels)
            clips = torch.randn(shape, device=device, dtype=torch.bfloat16)
            with torch.inference_mode():
                found[mode][str(batch)] = batch / median_seconds(partial(run, clips), device)
    return found


class CubeModel(nn.Module):
    """uint8 ``[batch, N, L]`` to logits; the embedding in float32, the rest as autocast has it."""

    cube_embedding_weight: Tensor
    cube_embedding_bias: Tensor
    positional_encoding: Tensor

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
        logits: Tensor = self._rest.head(self._rest.fc_norm(x.float().mean(1)))
        return logits
