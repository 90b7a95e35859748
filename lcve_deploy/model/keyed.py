"""Which tensors of a model depend on the key, and how each is permuted. A family adds a tensor by adding a row.

Source: format of scheme ``lcve-1``, section "The scrambled model".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.model.shapes import RELATIVE_INDEX, ROTARY_COS, ROTARY_SIN

__all__ = ["BY_TOKEN", "KEYED_TENSORS", "READOUT_INDEX", "KeyedBy", "KeyedTensor", "moved_rows"]

_INDEX: Final = "int64"


class KeyedBy(StrEnum):
    """What a tensor follows."""

    CUBES = "cubes"
    """K1: rows of cube tokens move; rows of prefix tokens come first and stay."""
    CUBE_PAIRS = "cube_pairs"
    """K1: rows and columns, which are both tokens, move in this way."""
    VALUES = "values"
    """K2: one row for each value of a cube."""
    LABELS = "labels"
    """K3, if the labels are hidden: one entry for each class."""
    TOKEN = "token"
    """K1: the tensor is the index of a token, which moves with it."""


BY_TOKEN: Final = (KeyedBy.CUBES, KeyedBy.CUBE_PAIRS)
"""What a tensor follows that has a row for every token: positions."""


@dataclass(frozen=True, kw_only=True)
class KeyedTensor:
    """A tensor that depends on the key.

    Args:
        name: name in a key folder; the graph's input has the prefix ``bank.``.
        by: what it follows.
        axis: axis that is permuted, in the shape that the graph takes; not used for ``TOKEN`` and ``CUBE_PAIRS``.
        dtype: NumPy name of the dtype in the graph.
        needs: another keyed tensor that a model with this one has.
        required: whether every model has it.
    """

    name: str
    by: KeyedBy
    axis: int = 0
    dtype: str = "float32"
    needs: str = ""
    required: bool = False


READOUT_INDEX: Final = "readout.index"

KEYED_TENSORS: Final = (
    KeyedTensor(name="cube_embedding.weight", by=KeyedBy.VALUES, required=True),
    KeyedTensor(name="positional_encoding", by=KeyedBy.CUBES),
    KeyedTensor(name=ROTARY_COS, by=KeyedBy.CUBES, needs=ROTARY_SIN),
    KeyedTensor(name=ROTARY_SIN, by=KeyedBy.CUBES, needs=ROTARY_COS),
    KeyedTensor(name=RELATIVE_INDEX, by=KeyedBy.CUBE_PAIRS, dtype=_INDEX),
    KeyedTensor(name=READOUT_INDEX, by=KeyedBy.TOKEN, dtype=_INDEX),
    KeyedTensor(name="head.weight", by=KeyedBy.LABELS, axis=1, needs="head.bias"),
    KeyedTensor(name="head.bias", by=KeyedBy.LABELS, needs="head.weight"),
)
"""All keyed tensors, in the order of the graph's inputs. A model has those of its kind of positions, at least one;
``readout.index`` if its classifier reads a single token; and those of its classifier, if it has one."""


def moved_rows(tensor: npt.NDArray[Any], order: npt.NDArray[np.int64], by: KeyedBy) -> npt.NDArray[Any]:
    """Return a tensor whose cubes have moved: cube i of the result is cube ``order[i]``; prefix tokens stay.

    Args:
        tensor: rows, or rows and columns, of all tokens.
        order: order of the cubes.
        by: ``CUBES`` or ``CUBE_PAIRS``.
    """
    prefix = len(tensor) - len(order)
    rows = np.concatenate([np.arange(prefix), prefix + order])
    moved = tensor.take(rows, axis=0)
    return moved.take(rows, axis=1) if by is KeyedBy.CUBE_PAIRS else moved
