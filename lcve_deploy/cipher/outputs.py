"""Put outputs of a model into the plain order, or into the order of a key.

K3 orders classes, on the last axis. K1 orders the rows of cube tokens, on the axis before it; rows of prefix tokens
come first and stay.

Source: format of scheme ``lcve-1``, section "The scrambled model".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.keys.orders import Order, Orders

__all__ = ["to_key_order", "to_plain_order"]

Values = npt.NDArray[Any]


def to_plain_order(values: Values, orders: Orders, *, per_token: bool) -> Values:
    """Return outputs of a model in the plain order.

    Args:
        values: outputs in the order of the key, ``[..., width]``, or ``[..., tokens, width]`` per token.
        orders: orders of the key.
        per_token: whether there is a row for each token.
    """
    if per_token:
        values = values.take(np.argsort(_rows(values, orders)), axis=-2)
    return values if orders.label_order is None else values.take(np.argsort(orders.label_order), axis=-1)


def to_key_order(values: Values, orders: Orders, *, per_token: bool) -> Values:
    """Return outputs in the order of a key; the inverse of ``to_plain_order``."""
    if per_token:
        values = values.take(_rows(values, orders), axis=-2)
    return values if orders.label_order is None else values.take(orders.label_order, axis=-1)


def _rows(values: Values, orders: Orders) -> Order:
    """Return the plain token in each row of an output in the order of the key."""
    prefix = values.shape[-2] - orders.geometry.cubes
    return np.concatenate([np.arange(prefix), prefix + orders.cube_order])
