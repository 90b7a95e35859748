"""A transformer as named arrays, the common form of checkpoints of every family.

Names and shapes of the weights are those of ``weight_shapes``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.model.config import (
    Activation,
    Attention,
    FinalNorm,
    Norm,
    Pooler,
    QkNorm,
    Readout,
    TransformerConfig,
)
from lcve_deploy.model.shapes import RELATIVE_INDEX, weight_shapes

__all__ = [
    "IMAGENET",
    "Activation",
    "Attention",
    "FinalNorm",
    "Norm",
    "Normalisation",
    "Pooler",
    "QkNorm",
    "Readout",
    "ScrambledTransformer",
    "TransformerConfig",
    "VideoTransformer",
    "Weights",
    "logit_scale",
    "sinusoid_table",
    "weight_shapes",
]

Weights = Mapping[str, npt.NDArray[Any]]
"""Float arrays by name, and one index table of int64."""

_BLOCK_ROWS: Final = 1024
_LOGIT_SCALE_CAP: Final = 4.6052  # ln 100, as VideoMAEv2 writes it


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Normalisation of a value x (0..255) of channel c: (x/255 - mean[c]) / std[c].

    Raises:
        CheckpointError: a mean and std of different lengths, not finite, or a std not above zero.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise CheckpointError(f"mean has {len(self.mean)} channels and std {len(self.std)}")
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise CheckpointError(f"expected finite means and stds above zero, received {self.mean} and {self.std}")


IMAGENET: Final = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def logit_scale(log_scale: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the factor on the cosines of each head: the exponential of the learned value, capped at 100."""
    scale: npt.NDArray[np.float64] = np.exp(np.minimum(np.asarray(log_scale, dtype=np.float64), _LOGIT_SCALE_CAP))
    return scale


def sinusoid_table(positions: int, width: int) -> npt.NDArray[np.float32]:
    """Compute the position table that VideoMAE does not save in checkpoints, ``[positions, width]``.

    One-dimensional over the flattened (t, h, w) index: the angle is position / 10000^(2·(j//2)/D),
    its sine in even columns j and its cosine in odd ones.

    Source: VideoMAE, ``get_sinusoid_encoding_table``.
    """
    column = np.arange(width)
    table = np.empty((positions, width), np.float32)
    for first in range(0, positions, _BLOCK_ROWS):  # in blocks, to keep temporary arrays small
        rows = np.arange(first, min(first + _BLOCK_ROWS, positions))
        angle = rows[:, None] / np.power(10000.0, 2 * (column // 2) / width)
        table[rows] = np.where(column % 2 == 0, np.sin(angle), np.cos(angle))
    return table


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoTransformer:
    """A plain model, which the owner has and the operator must not see.

    Args:
        config: configuration.
        weights: arrays by the names of ``weight_shapes``, all of floats but ``relative_position.index``.
        normalisation: normalisation of a clip's values before the embedding.

    Raises:
        CheckpointError: names every missing, unexpected, misshapen or non-finite weight, and an index out of range.
    """

    config: TransformerConfig
    weights: Weights
    normalisation: Normalisation = IMAGENET

    def __post_init__(self) -> None:
        channels = self.config.geometry.channels
        if len(self.normalisation.mean) != channels:
            raise CheckpointError(
                f"the model has {channels} channels, the normalisation {len(self.normalisation.mean)}",
                hint="pass one mean and one std per channel: --mean a,b,c --std a,b,c",
            )
        problems = _weight_problems(self.weights, weight_shapes(self.config))
        problems += _index_problems(self.weights, self.config)
        if problems:
            raise CheckpointError("the weights do not match the configuration: " + "; ".join(problems))


@dataclass(frozen=True, kw_only=True, eq=False)
class ScrambledTransformer:
    """A model that reads encrypted uint8 clips, the input of exporters.

    Args:
        config: configuration of the plain model.
        weights: by the names of the plain model; the embedding takes raw values 0..255.
        readout_index: token that the classifier reads; None if it reads the mean.
    """

    config: TransformerConfig
    weights: Weights
    readout_index: int | None


def _weight_problems(weights: Weights, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    problems = [f"missing {name}" for name in shapes if name not in weights]
    problems += [f"unexpected {name}" for name in weights if name not in shapes]
    for name, shape in shapes.items():
        if name in weights and weights[name].shape != shape:
            problems.append(f"{name} has shape {list(weights[name].shape)}, expected {list(shape)}")
        elif name in weights and not np.isfinite(weights[name]).all():
            problems.append(f"{name} has values that are not finite (NaN or infinity)")
    return problems


def _index_problems(weights: Weights, config: TransformerConfig) -> list[str]:
    """Check the table of relative positions."""
    index = weights.get(RELATIVE_INDEX)
    if index is None or not index.size or not config.relative_buckets:
        return []
    if index.dtype != np.int64:
        return [f"{RELATIVE_INDEX} is {index.dtype}, expected int64"]
    if index.min() < 0 or index.max() >= config.relative_buckets:
        return [f"{RELATIVE_INDEX} has entries outside 0 to {config.relative_buckets - 1}"]
    return []
