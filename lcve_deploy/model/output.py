"""What a model answers for a clip: logits, a feature vector, or one row for each token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from lcve_deploy.model.config import TransformerConfig

__all__ = ["ModelOutput", "OutputKind"]


class OutputKind(StrEnum):
    """Kind of an output; also the name of the tensor in the graph and on the wire."""

    LOGITS = "logits"
    """``[classes]``: one number for each class."""
    FEATURES = "features"
    """``[width]``: a vector, of a model without a classifier."""
    TOKENS = "tokens"
    """``[tokens, width]``: a vector for each token, prefix tokens first, then the cubes in the order K1."""
    TOKEN_LOGITS = "token_logits"
    """``[tokens, classes]``: logits for each token, in the same order."""

    @property
    def has_labels(self) -> bool:
        """Whether the last axis counts classes, whose order K3 may hide."""
        return self in (OutputKind.LOGITS, OutputKind.TOKEN_LOGITS)

    @property
    def has_tokens(self) -> bool:
        """Whether there is a row for each token, so that K1 orders the rows."""
        return self in (OutputKind.TOKENS, OutputKind.TOKEN_LOGITS)

    @property
    def axes(self) -> str:
        """Names of the axes of one clip, separated by commas."""
        return "tokens, " * self.has_tokens + ("classes" if self.has_labels else "width")

    @classmethod
    def parse(cls, name: str) -> OutputKind:
        """Return the kind with this name.

        Raises:
            ValueError: there is none.
        """
        if name not in list(cls):
            raise ValueError(f"expected the name {', '.join(cls)}, received {name[:100]!r}")
        return cls(name)


_KINDS: Final = {(kind.has_labels, kind.has_tokens): kind for kind in OutputKind}
"""Kinds by whether there is a classifier, and whether there is a row for each token."""


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """Kind and shape of the output of one clip.

    Args:
        kind: kind of the output.
        shape: ``[width]``, or ``[tokens, width]`` with a row for each token; without the axis of clips.

    Raises:
        ValueError: another number of axes than the kind has, or a size below 1.
    """

    kind: OutputKind
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) != 1 + self.kind.has_tokens or min(self.shape) < 1:
            raise ValueError(f"expected {self.kind} of the shape [{self.kind.axes}], received {list(self.shape)}")

    @classmethod
    def of(cls, config: TransformerConfig) -> Self:
        """Return the output of a model."""
        shape = config.output_shape
        return cls(kind=_KINDS[config.head, len(shape) > 1], shape=shape)

    @classmethod
    def logits(cls, classes: int) -> Self:
        """Return the output of a classifier of clips."""
        return cls(kind=OutputKind.LOGITS, shape=(classes,))

    @property
    def width(self) -> int:
        """Length of the last axis: the number of classes if there are labels."""
        return self.shape[-1]

    @property
    def values(self) -> int:
        """Number of values for one clip."""
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.kind} {list(self.shape)}"
