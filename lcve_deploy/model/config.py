"""The configuration of a transformer: every switch of the common form that checkpoints of all families have.

A family is a choice of these values. A checkpoint that needs another kind of layer needs another field here, its
weights in ``shapes``, and its nodes in the graph and in the built-in reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lcve_deploy.errors import CheckpointError
from lcve_deploy.geometry import ClipGeometry

__all__ = ["Activation", "Attention", "FinalNorm", "Norm", "Pooler", "QkNorm", "Readout", "TransformerConfig"]

_MAX_DEPTH: Final = 1000


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


class Norm(StrEnum):
    """Normalisation of a vector."""

    LAYER = "layer"
    RMS = "rms"
    """By the root of the mean square, with a weight and no bias."""


class QkNorm(StrEnum):
    """Which vectors of queries and keys are normalised, before they are rotated."""

    NONE = "none"
    HEAD = "head"
    """The vector of each head, with one weight for all heads."""
    WIDTH = "width"
    """The vector of all heads."""


class FinalNorm(StrEnum):
    """Where the last normalisation is."""

    BEFORE = "before pooling"
    """Every token is normalised."""
    AFTER = "after pooling"
    """The pooled vector is normalised."""
    NONE = "none"


class Readout(StrEnum):
    """Input of the classifier, from the tokens of the last block."""

    MEAN = "mean"
    """The mean of all tokens."""
    CLASS_TOKEN = "class_token"
    """The first prefix token."""
    FIRST_CUBE = "first_cube"
    CUBES_MEAN = "cubes_mean"
    """The mean of the cubes, in a model that also has prefix tokens."""
    CLASS_AND_MEAN = "class_and_mean"
    """The first prefix token, then the mean of the cubes."""
    PREFIX_PAIR = "prefix_pair"
    """The first two prefix tokens, such as those for classes and for distillation."""
    ATTENTION = "attention"
    """Attention of a constant query over all tokens: see ``Pooler``."""
    TOKENS = "tokens"
    """Every token by itself, prefix tokens first."""


_PREFIX_READ: Final = {Readout.CLASS_TOKEN: 1, Readout.CLASS_AND_MEAN: 1, Readout.PREFIX_PAIR: 2}
_PAIRS: Final = (Readout.CLASS_AND_MEAN, Readout.PREFIX_PAIR)


@dataclass(frozen=True, kw_only=True)
class Pooler:
    """Attentive pooling: a constant query attends to all tokens.

    Blocks of the pooler come first; they are like those of the encoder, without what is particular to its attention
    and MLP. Then attention, its projection, and an MLP with its norm, which is added to its input.

    Args:
        heads: attention heads; must divide the width.
        hidden: width of the MLPs; 0 without an MLP.
        depth: number of blocks before the query.
        input_norm: whether the query attends to normalised tokens.
        residual: whether the query, before its projection, is added to the result of the attention.
        projection: whether the result of the attention is projected.
        eps: epsilon of the norms.
    """

    heads: int
    hidden: int = 0
    depth: int = 0
    input_norm: bool = False
    residual: bool = False
    projection: bool = True
    eps: float = 1e-6


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Configuration of a transformer of videos, or of images, which are clips of one frame.

    Args:
        geometry: clip and cube; the cube is the model's tubelet.
        width: D, width of a token.
        depth: number of blocks.
        heads: attention heads; must divide the width.
        hidden: width of the MLP.
        classes: length of the output: of the logits, or of a vector if there is no classifier.
        attention: scaled dot product, or cosine with a learned scale per head.
        activation: activation of the MLP.
        block_eps: epsilon of the norms in the blocks and of the norm before them.
        final_eps: epsilon of the last norm.
        readout: input of the classifier.
        qkv_bias: whether queries, keys and values have a bias.
        layer_scale: whether each branch is scaled per channel.
        prefix: tokens before the cubes: of classes, distillation, registers.
        positions: whether a table of positions is added to the tokens.
        rotary: whether queries and keys are rotated by tables.
        relative_buckets: entries of the table of relative positions that is added to the scores; 0 without it.
        norm: kind of all norms, but those of queries and keys.
        qk_norm: what of queries and keys is normalised.
        qk_norm_kind: kind of the norms of queries and keys.
        attention_norm: whether the result of the attention is normalised before its projection.
        embedding_norm: whether tokens are normalised before the blocks.
        final_norm: where the last norm is.
        gated: whether the MLP multiplies the activation of one half by the other half.
        mlp_norm: whether the MLP normalises its hidden values.
        pooler: how a readout by attention pools; None for other readouts.
        projection: width of a linear layer after pooling; 0 without it.
        unit: whether the vector before the classifier is divided by its length.
        head: whether there is a classifier. Without it, the output is the vector or the tokens themselves.

    Raises:
        CheckpointError: values that do not fit together; the message lists all of them.
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
    prefix: int = 0
    positions: bool = True
    rotary: bool = False
    relative_buckets: int = 0
    norm: Norm = Norm.LAYER
    qk_norm: QkNorm = QkNorm.NONE
    qk_norm_kind: Norm = Norm.LAYER
    attention_norm: bool = False
    embedding_norm: bool = False
    final_norm: FinalNorm = FinalNorm.AFTER
    gated: bool = False
    mlp_norm: bool = False
    pooler: Pooler | None = None
    projection: int = 0
    unit: bool = False
    head: bool = True

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
        problems = [*_token_problems(self), *_readout_problems(self), *_pooler_problems(self)]
        if problems:
            raise CheckpointError("the configuration of the model is invalid: " + "; ".join(problems))

    @property
    def tokens(self) -> int:
        """Length of the token sequence."""
        return self.prefix + self.geometry.cubes

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def pooled_width(self) -> int:
        """Width of what the readout gives, for each clip or token."""
        return self.width * (2 if self.readout in _PAIRS else 1)

    @property
    def feature_width(self) -> int:
        """Width of what the classifier reads, for each clip or token."""
        return self.projection or self.pooled_width

    @property
    def pooler_blocks(self) -> TransformerConfig:
        """Configuration of the blocks of the pooler, whose heads, MLP and norms are also those of its query.

        Raises:
            ValueError: the model has no pooler.
        """
        if self.pooler is None:
            raise ValueError("expected a model with a pooler")
        return TransformerConfig(
            geometry=self.geometry,
            width=self.width,
            depth=self.pooler.depth or 1,
            heads=self.pooler.heads,
            hidden=self.pooler.hidden or 1,
            classes=self.classes,
            prefix=self.prefix,
            activation=self.activation,
            norm=self.norm,
            block_eps=self.pooler.eps,
        )

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of one clip."""
        return (self.tokens, self.classes) if self.readout is Readout.TOKENS else (self.classes,)


def _token_problems(config: TransformerConfig) -> Iterator[str]:
    if min(config.prefix, config.relative_buckets, config.projection) < 0:
        yield "counts of prefix tokens, relative positions and the width of the projection must not be negative"
    if config.rotary and config.head_width % 2:
        yield f"rotary tables need heads of an even width, received {config.head_width}"
    if not (config.positions or config.rotary or config.relative_buckets):
        yield "a model without any positions cannot tell the order of cubes"
    if config.attention is Attention.COSINE and (config.rotary or config.qk_norm is not QkNorm.NONE):
        yield "cosine attention normalises queries and keys itself: it goes with neither rotary tables nor qk_norm"


def _readout_problems(config: TransformerConfig) -> Iterator[str]:
    least = _PREFIX_READ.get(config.readout, 0)
    if config.prefix < least:
        yield f"the readout {config.readout} needs {least} prefix tokens, the model has {config.prefix}"
    single = config.readout not in (*_PAIRS, Readout.TOKENS)
    if config.final_norm is FinalNorm.AFTER and not single:
        yield f"the readout {config.readout} has no single vector that is normalised after pooling"
    if not config.head and config.classes != config.feature_width:
        yield f"a model without a classifier gives {config.feature_width} values, not {config.classes}"


def _pooler_problems(config: TransformerConfig) -> Iterator[str]:
    pooler = config.pooler
    if (pooler is not None) != (config.readout is Readout.ATTENTION):
        yield f"a pooler belongs to the readout {Readout.ATTENTION}, the readout is {config.readout}"
    if pooler is None:
        return
    if pooler.heads < 1 or config.width % pooler.heads:
        yield f"the heads of the pooler must divide the width {config.width}, received {pooler.heads}"
    if not 0 <= pooler.depth <= _MAX_DEPTH or pooler.hidden < 0 or (pooler.depth and not pooler.hidden):
        yield f"{pooler.depth} blocks of the pooler with an MLP of width {pooler.hidden}"
