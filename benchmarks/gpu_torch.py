"""The PyTorch model on cubes: scrambled weights, or plain ones with the normalisation folded in."""

from __future__ import annotations

import numpy as np
import torch
from models import Size, videomae
from torch import Tensor, nn
from torch.nn.functional import linear

from lcve_deploy.precision import Precision
from lcve_deploy.transformer import ScrambledTransformer

DTYPES = {Precision.FP32: torch.float32, Precision.BF16: torch.bfloat16, Precision.FP16: torch.float16}


def torch_device(device: str) -> str:
    """The device, or the CPU where this PyTorch has no CUDA."""
    return device if device == "cpu" or torch.cuda.is_available() else "cpu"


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
