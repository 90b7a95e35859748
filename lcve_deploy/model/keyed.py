"""Which tensors of a model depend on the key, and how each is permuted. A family adds a tensor by adding a row.

Source: format of scheme ``lcve-1``, section "The scrambled model".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["KEYED_TENSORS", "READOUT_INDEX", "KeyedBy", "KeyedTensor"]


class KeyedBy(StrEnum):
    """What a tensor follows."""

    CUBES = "cubes"
    """K1: rows of cube tokens move; rows of prefix tokens come first and stay."""
    VALUES = "values"
    """K2: one row for each value of a cube."""
    LABELS = "labels"
    """K3, if the labels are hidden: one entry for each class."""
    TOKEN = "token"
    """K1: the tensor is the index of a token, which moves with it."""


@dataclass(frozen=True, kw_only=True)
class KeyedTensor:
    """A tensor that depends on the key.

    Args:
        name: name in a key folder; the graph's input has the prefix ``bank.``.
        by: what it follows.
        axis: axis that is permuted, in the shape that the graph takes; not used for ``TOKEN``.
    """

    name: str
    by: KeyedBy
    axis: int = 0


READOUT_INDEX: Final = "readout.index"

KEYED_TENSORS: Final = (
    KeyedTensor(name="cube_embedding.weight", by=KeyedBy.VALUES),
    KeyedTensor(name="positional_encoding", by=KeyedBy.CUBES),
    KeyedTensor(name=READOUT_INDEX, by=KeyedBy.TOKEN),
    KeyedTensor(name="head.weight", by=KeyedBy.LABELS, axis=1),
    KeyedTensor(name="head.bias", by=KeyedBy.LABELS),
)
"""All keyed tensors, in the order of the graph's inputs. ``readout.index`` exists only if the classifier reads a single
token."""
