"""Match rows one to one by linear assignment."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["assign", "cosine_similarity", "match_rows", "normalise_rows"]

Floats = npt.NDArray[np.floating]


def assign(gain: Floats) -> Order:
    """Return the column of each row in the one-to-one assignment with the largest total gain; int64 ``[rows]``."""
    from scipy.optimize import linear_sum_assignment

    columns: Order = linear_sum_assignment(gain, maximize=True)[1]
    return columns


def match_rows(rows: Floats, known: Floats) -> Order:
    """Return the index of the known row that each row is matched with, by cosine similarity.

    Cosines do not depend on scale, which normalisation or weight decay may change.
    """
    return assign(cosine_similarity(rows, known))


def cosine_similarity(rows: Floats, others: Floats) -> npt.NDArray[Any]:
    """Return the cosines between the rows of two matrices, ``[rows, others]``."""
    cosines: npt.NDArray[Any] = normalise_rows(rows) @ normalise_rows(others).T
    return cosines


def normalise_rows(rows: Floats) -> npt.NDArray[Any]:
    """Scale rows to unit length, in float64; zero rows stay zero."""
    exact = np.asarray(rows, dtype=np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    return exact / np.where(length > 0, length, 1)
