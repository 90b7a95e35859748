"""Tables made of secret orders, kept on the device of the arrays that are encrypted.

They are kept for as long as their orders exist, and are as secret as these.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, MutableMapping
from typing import Any, Final
from weakref import WeakKeyDictionary

from lcve_deploy.keys.orders import Orders

__all__ = ["on_device"]

_TABLES: Final[MutableMapping[Orders, dict[Hashable, tuple[Any, ...]]]] = WeakKeyDictionary()


def on_device(
    values: Any, orders: Orders, xp: Any, make: Callable[..., tuple[Any, ...]], *given: Hashable
) -> tuple[Any, ...]:
    """Return tables on the device of an array; they are made once for each device.

    Args:
        values: array on the device.
        orders: of the key.
        xp: array API functions of the array's library.
        make: makes the tables in NumPy, of the orders and what else is given.
        given: what else they depend on.
    """
    kept = _TABLES.setdefault(orders, {})
    place = (make, xp.__name__, str(values.device), *given)
    if place not in kept:
        kept[place] = tuple(xp.asarray(table, device=values.device) for table in make(orders, *given))
    return kept[place]
