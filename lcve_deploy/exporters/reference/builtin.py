"""Run the plain model in PyTorch: the reference that every exported graph is compared with.

It follows the official implementations and shares no code with the exported graph. It normalises the clip, embeds it
with a strided convolution, and computes in float32 or float64.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.model.transformer import (
    Activation,
    Attention,
    Normalisation,
    Readout,
    TransformerConfig,
    VideoTransformer,
    logit_scale,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["BuiltinReference", "Reference", "ReferencePrecision", "normalised"]


class ReferencePrecision(StrEnum):
    """What a reference computes in. The names are those of dtypes."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"

    @classmethod
    def of(cls, *, thorough: bool) -> ReferencePrecision:
        """Return the precision of a default or of a thorough comparison."""
        return cls.FLOAT64 if thorough else cls.FLOAT32

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of torch."""
        import torch

        return {ReferencePrecision.FLOAT32: torch.float32, ReferencePrecision.FLOAT64: torch.float64}[self]


class Reference(Protocol):
    """A plain model that computes logits."""

    @property
    def name(self) -> str:
        """Name of the implementation, for reports."""

    def logits(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute logits ``[batch, classes]`` of plain clips, uint8 RGB ``[batch, T, H, W, C]``."""


def normalised(
    clip: npt.NDArray[np.uint8],
    normalisation: Normalisation,
    precision: ReferencePrecision = ReferencePrecision.FLOAT64,
) -> Tensor:
    """Compute (x/255 - mean)/std of one clip, uint8 ``[T, H, W, C]``, in float64; return ``[1, T, C, H, W]``."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(clip)).to(torch.float64) / 255
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (normalisation.mean, normalisation.std))
    return ((values - mean) / std).permute(0, 3, 1, 2)[None].to(precision.dtype)


class BuiltinReference:
    """A video transformer, run one clip at a time. It shares the memory of weights that have its precision."""

    def __init__(self, model: VideoTransformer, precision: ReferencePrecision = ReferencePrecision.FLOAT64) -> None:
        import torch

        self._config, self._normalisation, self._precision = model.config, model.normalisation, precision
        self._weights = {name: torch.from_numpy(np.asarray(array, precision)) for name, array in model.weights.items()}

    @property
    def name(self) -> str:
        """Name of the implementation, for reports."""
        return f"built-in PyTorch, {self._precision}"

    def logits(self, clips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """Compute logits ``[batch, classes]`` of plain clips, uint8 RGB ``[batch, T, H, W, C]``."""
        import torch

        with torch.inference_mode():
            return np.concatenate([self._forward(clip).double().numpy() for clip in clips])

    def _forward(self, clip: npt.NDArray[np.uint8]) -> Tensor:
        x = self._embed(normalised(clip, self._normalisation, self._precision))
        for i in range(self._config.depth):
            x = x + self._branch(i, 1, self._attention(i, self._norm(x, f"blocks.{i}.norm1", self._config.block_eps)))
            x = x + self._branch(i, 2, self._mlp(i, self._norm(x, f"blocks.{i}.norm2", self._config.block_eps)))
        means = self._config.readout in (Readout.MEAN, Readout.CUBES_MEAN)
        pooled = x[:, self._config.prefix :].mean(1) if means else x[:, 0]
        return self._linear(self._norm(pooled, "norm", self._config.final_eps), "head")

    def _embed(self, clip: Tensor) -> Tensor:
        import torch
        from torch.nn.functional import conv3d

        t, h, w = cube = self._config.geometry.cube
        flat = self._weights["cube_embedding.weight"]
        kernel = flat.reshape(len(flat), t, h, w, -1).permute(0, 4, 1, 2, 3)
        x = conv3d(clip.transpose(1, 2), kernel, self._weights["cube_embedding.bias"], stride=cube)
        x = x.flatten(2).transpose(1, 2)
        if self._config.prefix:
            x = torch.cat([self._weights["prefix_tokens"][None], x], dim=1)
        return x + self._weights["positional_encoding"]

    def _attention(self, i: int, x: Tensor) -> Tensor:
        from torch.nn.functional import normalize, scaled_dot_product_attention

        batch, tokens, width = x.shape
        qkv = self._linear(x, f"blocks.{i}.attention.qkv").reshape(batch, tokens, 3, self._config.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        if self._config.attention is Attention.COSINE:
            scale = _cosine_scale(self._weights[f"blocks.{i}.attention.log_scale"], self._config)
            mixed = scaled_dot_product_attention(normalize(q, dim=-1) * scale, normalize(k, dim=-1), v, scale=1.0)
        else:
            mixed = scaled_dot_product_attention(q, k, v)
        return self._linear(mixed.transpose(1, 2).reshape(batch, tokens, width), f"blocks.{i}.attention.projection")

    def _mlp(self, i: int, x: Tensor) -> Tensor:
        activation = _activations()[self._config.activation]
        return self._linear(activation(self._linear(x, f"blocks.{i}.mlp.fc1")), f"blocks.{i}.mlp.fc2")

    def _branch(self, i: int, number: int, x: Tensor) -> Tensor:
        return x * self._weights[f"blocks.{i}.scale{number}"] if self._config.layer_scale else x

    def _norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        from torch.nn.functional import layer_norm

        return layer_norm(x, (self._config.width,), self._weights[f"{name}.weight"], self._weights[f"{name}.bias"], eps)

    def _linear(self, x: Tensor, name: str) -> Tensor:
        from torch.nn.functional import linear

        return linear(x, self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias"))


def _cosine_scale(log_scale: Tensor, config: TransformerConfig) -> Tensor:
    import torch

    return torch.from_numpy(logit_scale(log_scale.numpy())).to(log_scale.dtype).reshape(1, config.heads, 1, 1)


_TANH_NAME: Final = "tanh"


def _activations() -> dict[Activation, Callable[[Tensor], Tensor]]:
    from torch.nn import functional

    return {
        Activation.GELU: functional.gelu,
        Activation.GELU_TANH: lambda x: functional.gelu(x, approximate=_TANH_NAME),
        Activation.QUICK_GELU: lambda x: x * (1.702 * x).sigmoid(),
        Activation.RELU: functional.relu,
        Activation.SILU: functional.silu,
    }
