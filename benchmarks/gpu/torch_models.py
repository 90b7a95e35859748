"""The PyTorch model on cubes: scrambled weights, or plain ones with the normalisation folded in."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from benchmarks.common.devices import DTYPES, median_seconds
from benchmarks.common.models import Size, videomae
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import ScrambledTransformer


class PlainInBf16:
    """The plain model, all of it in bf16, clips on the card: what there is without this package."""

    MODES = ("eager", "torch.compile")

    def __init__(self, size: Size, device: str) -> None:
        self._size, self._device = size, device

    @cached_property
    def _runs(self) -> dict[str, Callable[..., Tensor]]:
        model = videomae(self._size).to(self._device, torch.bfloat16)
        return {"eager": model, "torch.compile": torch.compile(model)}

    def rate(self, mode: str, batch: int) -> float:
        """Clips a second."""
        shape = (batch, 3, self._size.frames, self._size.pixels, self._size.pixels)
        clips = torch.randn(shape, device=self._device, dtype=torch.bfloat16)
        with torch.inference_mode():
            return batch / median_seconds(partial(self._runs[mode], clips), self._device)


class CubeModel(nn.Module):
    """uint8 ``[batch, N, L]`` to logits; the embedding in float32, the rest as autocast has it."""

    cube_embedding_weight: Tensor
    cube_embedding_bias: Tensor
    positional_encoding: Tensor

    def __init__(self, model: ScrambledTransformer, size: Size, precision: Precision, device: str) -> None:
        super().__init__()
        self._device, self._dtype = device, DTYPES[precision]
        self._rest = videomae(size)
        for module in self._rest.blocks.modules():  # once, and not in every run
            if isinstance(module, nn.Linear):
                module.to(self._dtype)
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
