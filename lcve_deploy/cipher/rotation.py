"""Keyed tensors of one key from those of another, in NumPy: how a key is enrolled without the checkpoint.

The plain tensors never exist: each tensor is moved once, by the new order after the inverse of the old one. No number
changes, so no bit of the folded embedding is lost, however long a chain of keys is.

Source: format of scheme ``lcve-1``, sections "The scrambled model" and "Key folder".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.outputs import to_key_order, to_plain_order
from lcve_deploy.keys.orders import Order, Orders, Signs
from lcve_deploy.model.keyed import BY_TOKEN, KEYED_TENSORS, KeyedBy, KeyedTensor, moved_rows

__all__ = ["reorder_output", "rotate_tensors"]

Tensors = Mapping[str, npt.NDArray[Any]]


def rotate_tensors(tensors: Tensors, old: Orders, new: Orders) -> dict[str, npt.NDArray[Any]]:
    """Return keyed tensors in the orders of another key or salt.

    Args:
        tensors: by the names of ``KEYED_TENSORS``, shaped as in a key folder, in the old orders.
        old: orders of the tensors.
        new: orders of the result.

    Raises:
        ValueError: labels hidden in one and shown in the other, or orders of another geometry or scheme.
    """
    same = old.geometry == new.geometry and old.scheme is new.scheme
    if not same or (old.label_order is None) != (new.label_order is None):
        raise ValueError("the old and the new orders are not for the same scheme, geometry and labels")
    moves = _Moves(old, new, prefix=_prefix(tensors, old.geometry.cubes))
    return {keyed.name: moves.of(keyed, tensors[keyed.name]) for keyed in KEYED_TENSORS if keyed.name in tensors}


def reorder_output(values: npt.NDArray[Any], old: Orders, new: Orders) -> npt.NDArray[Any]:
    """Return outputs ``[clips, width]`` or ``[clips, tokens, width]`` of one key in the order of another."""
    per_token = values.ndim > 2
    plain = to_plain_order(values, old, per_token=per_token)
    return np.ascontiguousarray(to_key_order(plain, new, per_token=per_token))


class _Moves:
    """How tensors move from old orders to new ones."""

    def __init__(self, old: Orders, new: Orders, *, prefix: int) -> None:
        self._prefix = prefix
        self._cubes = _relative(old.cube_order, new.cube_order)
        self._values = _relative(old.pixel_order, new.pixel_order)
        self._signs = _relative_signs(old, new)
        hidden = old.label_order is not None and new.label_order is not None
        self._labels = _relative(old.label_order, new.label_order) if hidden else None  # type: ignore[arg-type]

    def of(self, keyed: KeyedTensor, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        match keyed.by:
            case KeyedBy.CUBES | KeyedBy.CUBE_PAIRS:
                return moved_rows(tensor, self._cubes, keyed.by)
            case KeyedBy.VALUES:
                return self._signed(tensor.take(self._values, axis=keyed.axis), keyed.axis)
            case KeyedBy.LABELS:
                return tensor if self._labels is None else tensor.take(self._labels, axis=keyed.axis)
            case KeyedBy.TOKEN:
                return self._moved(tensor)

    def _signed(self, tensor: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        if self._signs is None:
            return tensor
        others = [i for i in range(tensor.ndim) if i != axis]
        signed: npt.NDArray[Any] = tensor * np.expand_dims(self._signs.astype(tensor.dtype), others)
        return signed

    def _moved(self, index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where the token has moved to; prefix tokens stay."""
        if index < self._prefix:
            return index
        return np.array(self._prefix + np.flatnonzero(self._cubes == index - self._prefix)[0], dtype=np.int64)


def _prefix(tensors: Tensors, cubes: int) -> int:
    """Return the number of prefix tokens, from a tensor with a row for every token."""
    rows = (len(tensors[keyed.name]) for keyed in KEYED_TENSORS if keyed.by in BY_TOKEN and keyed.name in tensors)
    return next(rows, cubes) - cubes


def _relative(old: Order, new: Order) -> Order:
    """Return where the entries of the new order are in the old one."""
    inverse = np.empty_like(old)
    inverse[old] = np.arange(len(old))
    return inverse[new]


def _relative_signs(old: Orders, new: Orders) -> Signs | None:
    """Return the change of sign of each value in the new order; None in a scheme without signs."""
    if old.signs is None or new.signs is None:
        return None
    return (old.signs * new.signs)[new.pixel_order]
