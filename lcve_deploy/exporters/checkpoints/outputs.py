"""Change what a model answers: a vector or tokens instead of logits, or logits of other classes.

The new model is made of the checkpoint's own weights; what it no longer needs is left out.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError
from lcve_deploy.model.transformer import FinalNorm, Readout, TransformerConfig, VideoTransformer, weight_shapes

if TYPE_CHECKING:
    from lcve_deploy.exporters.checkpoints.class_vectors import ClassVectors

__all__ = ["OutputChoice", "answering", "with_class_vectors"]

_OF_ONE_TOKEN: Final = (Readout.CLASS_TOKEN, Readout.FIRST_CUBE)


class OutputChoice(StrEnum):
    """What a model should answer."""

    LOGITS = "logits"
    FEATURES = "features"
    TOKENS = "tokens"


def answering(model: VideoTransformer, choice: OutputChoice, *, width: int | None = None) -> VideoTransformer:
    """Return a model that answers something else.

    Args:
        model: model as read.
        choice: what it should answer.
        width: width of what a classifier would read of each token; a projection is kept if it has this width.

    Raises:
        CheckpointError: logits of a model without a classifier.
    """
    config = model.config
    match choice:
        case OutputChoice.LOGITS if not config.head:
            raise CheckpointError(
                f"expected a classifier in the checkpoint, which answers a vector of {config.classes} values",
                hint="pass --output-kind features or tokens, or the vectors of classes: --class-vectors FILE",
            )
        case OutputChoice.LOGITS:
            return model
        case OutputChoice.FEATURES:
            return _made(model, replace(config, head=False, classes=config.feature_width))
        case OutputChoice.TOKENS:
            return _tokens(model, width)


def with_class_vectors(model: VideoTransformer, vectors: ClassVectors) -> VideoTransformer:
    """Return a model whose classifier has one vector for each class.

    Args:
        model: model that answers a vector or tokens.
        vectors: vectors of the classes.

    Raises:
        CheckpointError: vectors of another width than the model's.
    """
    classes, width = vectors.weight.shape
    if width != model.config.feature_width:
        raise CheckpointError(
            f"expected class vectors of width {model.config.feature_width}, as the model answers, received {width}",
            hint="use the text encoder that belongs to this model, with its projection",
        )
    config = replace(model.config, head=True, classes=classes, unit=vectors.unit)
    dtype = np.result_type(model.weights["cube_embedding.weight"].dtype, np.float32)
    head = {"head.weight": vectors.weight.astype(dtype), "head.bias": vectors.bias.astype(dtype)}
    return _made(model, config, head)


def _tokens(model: VideoTransformer, width: int | None) -> VideoTransformer:
    """Return a model that answers every token, as its readout would see it.

    The norm of a single token that is read becomes that of every token. The norm of a mean is left out: it is trained
    for the mean, and no token goes through it.
    """
    config = model.config
    norm = config.final_norm
    if norm is FinalNorm.AFTER:
        norm = FinalNorm.BEFORE if config.readout in _OF_ONE_TOKEN else FinalNorm.NONE
    projection = config.projection if width is not None and config.projection == width else 0
    tokens = replace(
        config,
        readout=Readout.TOKENS,
        pooler=None,
        final_norm=norm,
        projection=projection,
        unit=False,
        head=False,
        classes=projection or config.width,
    )
    return _made(model, tokens)


def _made(
    model: VideoTransformer, config: TransformerConfig, new: dict[str, npt.NDArray[Any]] | None = None
) -> VideoTransformer:
    """Return a model with the weights that a configuration needs."""
    weights = {**model.weights, **(new or {})}
    return replace(model, config=config, weights={name: weights[name] for name in weight_shapes(config)})
