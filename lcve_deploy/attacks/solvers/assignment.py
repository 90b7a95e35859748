"""Matching rows with rows, one to one: the assignment of least total distance, or of most likeness."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["assign", "likeness", "match_rows", "unit_rows"]

Floats = npt.NDArray[np.floating]


def assign(gain: Floats) -> Order:
    """Column of each row in the one-to-one assignment of most total gain; int64 ``[rows]``."""
    from scipy.optimize import linear_sum_assignment

    columns: Order = linear_sum_assignment(gain, maximize=True)[1]
    return columns


def match_rows(rows: Floats, known: Floats) -> Order:
    """Which known row each row is, by the cosine of the angle between them.

    Cosines, so that another scale (a normalisation, a weight decay) does not matter.
    """
    return assign(likeness(rows, known))


def likeness(rows: Floats, others: Floats) -> npt.NDArray[Any]:
    """Cosines between the rows of two matrices."""
    cosines: npt.NDArray[Any] = unit_rows(rows) @ unit_rows(others).T
    return cosines


def unit_rows(rows: Floats) -> npt.NDArray[Any]:
    """Rows of length one; zero rows stay zero."""
    exact = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(length > 0, length, 1)
