"""A video transformer as named arrays, the common form of checkpoints of every family.

Weight names are those of ``weight_shapes``. Linear weights are ``[out, in]`` as in PyTorch, and the
cube embedding is flattened to ``[D, L]``, with columns in the order of the values of a cube.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.geometry import ClipGeometry

__all__ = [
    "IMAGENET",
    "Activation",
    "Attention",
    "Normalisation",
    "Readout",
    "ScrambledTransformer",
    "TransformerConfig",
    "VideoTransformer",
    "Weights",
    "logit_scale",
    "sinusoid_table",
    "weight_shapes",
]

Weights = Mapping[str, npt.NDArray[np.floating]]

_MAX_DEPTH: Final = 1000
_BLOCK_ROWS: Final = 1024
_LOGIT_SCALE_CAP: Final = 4.6052  # ln 100, as VideoMAEv2 writes it


class Attention(StrEnum):
    """Similarity of queries and keys."""

    DOT = "dot"
    COSINE = "cosine"


class Activation(StrEnum):
    """Activation of the MLP."""

    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    RELU = "relu"
    SILU = "silu"


class Readout(StrEnum):
    """Input of the classifier, from the tokens of the last block."""

    MEAN = "mean"
    CLASS_TOKEN = "class_token"
    FIRST_CUBE = "first_cube"
    CUBES_MEAN = "cubes_mean"
    """The mean of the cubes, in a model that also has a class token."""


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


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Configuration of a video transformer.

    Args:
        geometry: clip and cube; the cube is the model's tubelet.
        width: D, width of a token.
        depth: number of blocks.
        heads: attention heads; must divide the width.
        hidden: width of the MLP.
        classes: length of the logits.
        attention: scaled dot product, or cosine with a learned scale per head.
        activation: activation of the MLP.
        block_eps: epsilon of the LayerNorms in the blocks.
        final_eps: epsilon of the LayerNorm after the readout.
        readout: input of the classifier.
        qkv_bias: whether queries, keys and values have a bias.
        layer_scale: whether each branch is scaled per channel.

    Raises:
        CheckpointError: the number of heads does not divide the width, a size is zero, or there are too many blocks.
    """

    geometry: ClipGeometry
    width: int
    depth: int
    heads: int
    hidden: int
    classes: int
    attention: Attention = Attention.DOT
    activation: Activation = Activation.GELU
    block_eps: float = 1e-6
    final_eps: float = 1e-6
    readout: Readout = Readout.MEAN
    qkv_bias: bool = True
    layer_scale: bool = False

    def __post_init__(self) -> None:
        if self.heads < 1 or self.width % self.heads:
            raise CheckpointError(
                f"the number of heads must divide the width {self.width}, received {self.heads}",
                hint="pass the head count that the model was trained with: --num-heads N",
            )
        if min(self.classes, self.width, self.hidden) < 1 or not 1 <= self.depth <= _MAX_DEPTH:
            raise CheckpointError(
                f"expected at least one class, 1 to {_MAX_DEPTH} blocks and widths above zero, received "
                f"{self.classes}, {self.depth}, and {self.width} and {self.hidden}"
            )

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the cubes: 1 with a class token, else 0."""
        return int(self.readout in (Readout.CLASS_TOKEN, Readout.CUBES_MEAN))

    @property
    def tokens(self) -> int:
        """Length of the token sequence."""
        return self.prefix_tokens + self.geometry.cubes

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


def weight_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of this configuration, by name."""
    width, hidden = config.width, config.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "cube_embedding.weight": (width, config.geometry.values),
        "cube_embedding.bias": (width,),
        "positional_encoding": (config.tokens, width),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (config.classes, width),
        "head.bias": (config.classes,),
    }
    if config.prefix_tokens:
        shapes["prefix_tokens"] = (config.prefix_tokens, width)
    block: dict[str, tuple[int, ...]] = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attention.qkv.weight": (3 * width, width),
        "attention.projection.weight": (width, width),
        "attention.projection.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
    }
    if config.qkv_bias:
        block["attention.qkv.bias"] = (3 * width,)
    if config.attention is Attention.COSINE:
        block["attention.log_scale"] = (config.heads,)
    if config.layer_scale:
        block |= {"scale1": (width,), "scale2": (width,)}
    return shapes | {f"blocks.{i}.{name}": shape for i in range(config.depth) for name, shape in block.items()}


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
        weights: float arrays by the names of ``weight_shapes``.
        normalisation: normalisation of a clip's values before the embedding.

    Raises:
        CheckpointError: names every missing, unexpected, misshapen or non-finite weight.
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
