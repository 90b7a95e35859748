"""Key rotation on keyed tensors: from one key's orders to another's, in NumPy.

What is plain never exists: each tensor is moved once, by the new order after the inverse of the old.
No number changes, so no bit of the folded embedding is lost however often a key is rotated.

Source: format of scheme ``lcve-1``, sections "The scrambled model" and "Key rotation".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.keys.orders import Order, Orders

__all__ = ["rotate_tensors"]

Tensors = Mapping[str, npt.NDArray[Any]]


def rotate_tensors(tensors: Tensors, old: Orders, new: Orders) -> dict[str, npt.NDArray[Any]]:
    """Keyed tensors of an artifact in the orders of another key or salt.

    Args:
        tensors: by the names of ``KEYED_TENSORS``, shaped as in the graph.
        old: what they are in the order of.
        new: what they shall be in the order of.

    Raises:
        ValueError: labels hidden in one and shown in the other, or orders of another geometry.
    """
    if old.geometry != new.geometry or (old.label_order is None) != (new.label_order is None):
        raise ValueError("the old and the new orders are not for the same geometry and labels")
    table = tensors["positional_encoding"]
    prefix = len(table) - old.geometry.cubes
    values = _relative(old.pixel_order, new.pixel_order)
    cubes = _relative(old.cube_order, new.cube_order)
    rotated = {
        **tensors,
        "cube_embedding.weight": tensors["cube_embedding.weight"].take(values, axis=0),
        "positional_encoding": table.take(np.concatenate([np.arange(prefix), prefix + cubes]), axis=0),
    }
    if "readout.index" in tensors:
        rotated["readout.index"] = _moved(tensors["readout.index"], prefix, cubes)
    if old.label_order is not None and new.label_order is not None:
        labels = _relative(old.label_order, new.label_order)
        rotated |= {name: tensors[name].take(labels, axis=-1) for name in ("head.weight", "head.bias")}
    return rotated


def _relative(old: Order, new: Order) -> Order:
    """Where in the old order the entries of the new one stand."""
    inverse = np.empty_like(old)
    inverse[old] = np.arange(len(old))
    return inverse[new]


def _moved(index: npt.NDArray[np.int64], prefix: int, cubes: Order) -> npt.NDArray[np.int64]:
    """Where the token that the classifier reads has gone; prefix tokens stay."""
    if index < prefix:
        return index
    return np.array(prefix + np.flatnonzero(cubes == index - prefix)[0], dtype=np.int64)
