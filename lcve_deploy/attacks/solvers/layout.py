"""Lay out rows on a grid by similarity: run all solvers, and keep the layout with the most similar neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import cosine_similarity
from lcve_deploy.attacks.solvers.growing import CORNER_WEIGHTS, grow_layout
from lcve_deploy.attacks.solvers.sorting import sort_layout

__all__ = ["invert_layout", "lay_out", "neighbour_similarity"]

_MIN_SMOOTHNESS: Final = 0.5
_CELLS_TO_GROW: Final = 8000
_MAX_SEEDS: Final = 40


def lay_out(rows: npt.NDArray[Any], grid: tuple[int, ...]) -> Order:
    """Lay out rows on a grid so that neighbours are similar.

    Args:
        rows: float ``[cells, features]``.
        grid: size of the grid; it has as many cells as there are rows.

    Returns:
        Row at each cell, row-major; int64 ``[cells]``. Its orientation is arbitrary.
    """
    if len(rows) == 1:
        return np.zeros(1, dtype=np.int64)
    centred = rows - rows.mean(axis=0)
    similarity = cosine_similarity(centred, centred)
    smooth = sort_layout(rows, grid)
    if neighbour_similarity(similarity, smooth, grid) > _MIN_SMOOTHNESS:
        return smooth
    np.fill_diagonal(similarity, 0)
    grown = _grown_layouts(similarity, grid)
    return max([smooth, *grown], key=lambda layout: neighbour_similarity(similarity, layout, grid))


def invert_layout(layout: Order) -> Order:
    """Return the cell of each row: the inverse of a layout."""
    cells = np.empty_like(layout)
    cells[layout] = np.arange(len(layout))
    return cells


def neighbour_similarity(similarity: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]) -> float:
    """Return the mean similarity of rows in adjacent cells."""
    laid = layout.reshape(grid)
    pairs = [(np.delete(laid, -1, axis), np.delete(laid, 0, axis)) for axis, size in enumerate(grid) if size > 1]
    return float(np.concatenate([similarity[a, b].ravel() for a, b in pairs]).mean())


def _grown_layouts(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> Iterator[Order]:
    """Yield layouts grown from seeds that are spread over the rows, as single seeds may fail; fewer for large grids."""
    seeds = min(_MAX_SEEDS, max(2, _CELLS_TO_GROW // len(similarity)))
    for corner in CORNER_WEIGHTS:
        for seed in np.linspace(0, len(similarity) - 1, seeds).astype(int):
            yield grow_layout(similarity, grid, seed=int(seed), corner=corner)
