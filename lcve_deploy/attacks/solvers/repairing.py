"""Repair a layout: reassign rows in cells that are not adjacent, all at once, to where they fit best.

The cells of a coarse lattice are not adjacent, so the fit of their rows depends only on all other cells, and the best
assignment never reduces the total fit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign
from lcve_deploy.attacks.solvers.growing import directed

__all__ = ["neighbour_fit", "repair_layout"]

Floats = npt.NDArray[Any]

_ROUNDS: Final = 12


def neighbour_fit(similarity: Floats, layout: Order, grid: tuple[int, ...]) -> float:
    """Return the sum of the similarity of all adjacent cells; see ``repair_layout``."""
    laid = layout.reshape(grid)
    along = directed(similarity, grid)
    return float(
        sum(along[a][np.delete(laid, -1, a), np.delete(laid, 0, a)].sum() for a, size in enumerate(grid) if size > 1)
    )


def repair_layout(similarity: Floats, layout: Order, grid: tuple[int, ...], *, rounds: int = _ROUNDS) -> Order:
    """Improve the fit of a layout until nothing changes.

    Args:
        similarity: ``[rows, rows]``, or how well row j follows row i along each axis, ``[axes, rows, rows]``.
        layout: row at each cell, row-major.
        grid: size of the grid; it has as many cells as there are rows.
        rounds: maximum number of rounds.

    Returns:
        Row at each cell, row-major; int64 ``[rows]``.
    """
    along, layout = directed(similarity, grid), layout.copy()
    for _ in range(rounds):
        before = layout.copy()
        for cells in _lattices(grid):
            rows = layout[cells]
            layout[cells] = rows[assign(_fit(along, layout, cells, grid)[:, rows])]
        if (layout == before).all():
            break
    return layout


def _lattices(grid: tuple[int, ...]) -> Iterator[Order]:
    """Yield sets of cells that are not adjacent: the colours of a checkerboard, and lattices with a period of 2."""
    places = np.indices(grid).reshape(len(grid), -1)
    for parity in (0, 1):
        yield np.flatnonzero(places.sum(axis=0) % 2 == parity)
    for phase in itertools.product(*(range(min(size, 2)) for size in grid)):
        yield np.flatnonzero((places % 2 == np.array(phase)[:, None]).all(axis=0))


def _fit(along: Floats, layout: Order, cells: Order, grid: tuple[int, ...]) -> Floats:
    """Return how well every row fits each of the cells, by their adjacent cells, ``[cells, rows]``."""
    places = np.stack(np.unravel_index(cells, grid))
    fit = np.zeros((len(cells), along.shape[1]))
    for axis, size in enumerate(grid):
        for step in (-1, 1):
            neighbours = places.copy()
            neighbours[axis] += step
            inside = (neighbours[axis] >= 0) & (neighbours[axis] < size)
            rows = layout[np.ravel_multi_index(tuple(neighbours[:, inside]), grid)]
            fit[inside] += along[axis][rows] if step < 0 else along[axis][:, rows].T
    return fit
