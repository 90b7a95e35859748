"""Run the plain model in PyTorch: the reference that every exported graph is compared with.

It follows the official implementations and shares no code with the exported graph. It normalises the clip, embeds it
with a strided convolution, and computes in float32 or float64.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.reference.encoder import Layers
from lcve_deploy.exporters.reference.pooling import read_out
from lcve_deploy.model.shapes import RELATIVE_INDEX
from lcve_deploy.model.transformer import Normalisation, VideoTransformer

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
        self._weights = {
            name: torch.from_numpy(np.asarray(array, array.dtype if name == RELATIVE_INDEX else precision))
            for name, array in model.weights.items()
        }
        self._layers = Layers(self._weights, model.config)

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
        x = self._layers.blocks(x, "blocks.", self._config.depth)
        return read_out(x, self._weights, self._config)

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
        if self._config.positions:
            x = x + self._weights["positional_encoding"]
        return self._layers.norm(x, "norm_pre") if self._config.embedding_norm else x
