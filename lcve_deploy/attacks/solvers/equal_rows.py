"""Match rows that are equal bit for bit, as after a shuffle without noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["pair_equal_rows", "row_classes"]


def row_classes(plain: npt.NDArray[Any], cipher: npt.NDArray[Any]) -> tuple[Order, Order]:
    """Return a class number for every row ``[rows, features]`` of both sides; equal rows have the same number."""
    rows = np.ascontiguousarray(np.concatenate([plain, cipher]))
    whole = rows.view(f"V{rows.shape[1] * rows.dtype.itemsize}").reshape(-1)
    numbers = np.unique(whole, return_inverse=True)[1].reshape(-1)
    return numbers[: len(plain)], numbers[len(plain) :]


def pair_equal_rows(plain: Order, cipher: Order) -> Order:
    """Return a partner on the plain side for each row of the cipher side, by the order of their classes.

    If both sides have the same rows, partners are equal.
    """
    partner = np.empty(len(cipher), dtype=np.int64)
    partner[np.argsort(cipher, kind="stable")] = np.argsort(plain, kind="stable")
    return partner
