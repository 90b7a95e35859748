"""Laying rows out on a grid by what they resemble: every way that is known, and the best by likeness of neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import likeness
from lcve_deploy.attacks.solvers.growing import CORNER_WEIGHTS, grow_layout
from lcve_deploy.attacks.solvers.sorting import sort_layout

__all__ = ["lay_out", "neighbour_likeness", "placed"]

_SMOOTH: Final = 0.5
_CELLS_TO_GROW: Final = 8000
_MAX_SEEDS: Final = 40


def lay_out(rows: npt.NDArray[Any], grid: tuple[int, ...]) -> Order:
    """Lay rows out on a grid so that neighbours resemble each other.

    Args:
        rows: float ``[cells, features]``.
        grid: its size is the number of rows.

    Returns:
        Row at each cell, row-major; int64 ``[cells]``. Which way is up is left to chance.
    """
    centred = rows - rows.mean(axis=0)
    similarity = likeness(centred, centred)
    smooth = sort_layout(rows, grid)
    if neighbour_likeness(similarity, smooth, grid) > _SMOOTH:
        return smooth
    np.fill_diagonal(similarity, 0)
    grown = _grown_layouts(similarity, grid)
    return max([smooth, *grown], key=lambda layout: neighbour_likeness(similarity, layout, grid))


def placed(layout: Order) -> Order:
    """Cell of each row: the inverse of a layout."""
    cells = np.empty_like(layout)
    cells[layout] = np.arange(len(layout))
    return cells


def neighbour_likeness(similarity: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]) -> float:
    """Mean likeness of rows that lie side by side."""
    laid = layout.reshape(grid)
    pairs = [(np.delete(laid, -1, axis), np.delete(laid, 0, axis)) for axis, size in enumerate(grid) if size > 1]
    return float(np.concatenate([similarity[a, b].ravel() for a, b in pairs]).mean())


def _grown_layouts(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> Iterator[Order]:
    """From seeds all over the rows: where one goes astray, another does not. Fewer on large grids."""
    seeds = min(_MAX_SEEDS, max(2, _CELLS_TO_GROW // len(similarity)))
    for corner in CORNER_WEIGHTS:
        for seed in np.linspace(0, len(similarity) - 1, seeds).astype(int):
            yield grow_layout(similarity, grid, seed=int(seed), corner=corner)
