"""Matching rows with rows that are equal to the last bit: what a shuffle without noise leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["paired", "row_classes"]


def row_classes(plain: npt.NDArray[Any], cipher: npt.NDArray[Any]) -> tuple[Order, Order]:
    """A number for every row ``[rows, features]``, the same for equal rows of both sides."""
    rows = np.ascontiguousarray(np.concatenate([plain, cipher]))
    whole = rows.view(f"V{rows.shape[1] * rows.dtype.itemsize}").reshape(-1)
    numbers = np.unique(whole, return_inverse=True)[1].reshape(-1)
    return numbers[: len(plain)], numbers[len(plain) :]


def paired(plain: Order, cipher: Order) -> Order:
    """For each row of the cipher side one of the plain side, equal if there is one: in order of their classes."""
    partner = np.empty(len(cipher), dtype=np.int64)
    partner[np.argsort(cipher, kind="stable")] = np.argsort(plain, kind="stable")
    return partner
