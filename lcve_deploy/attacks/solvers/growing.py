"""Lay out rows on a grid one by one from a seed, like a jigsaw puzzle; for rows that are similar only to neighbours.

Greedy: each step places the row and the cell that fit best. Similarity to adjacent cells counts in favour, similarity
to diagonal cells slightly against. The layout may grow in any direction until it is as large as the grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["CORNER_WEIGHTS", "directed", "grow_layout"]

CORNER_WEIGHTS: Final = (0.0, -0.3, -0.5)
"""Weights of similarity to diagonal cells."""

Cell = tuple[int, ...]


def grow_layout(
    similarity: npt.NDArray[Any], grid: tuple[int, ...], *, seed: int | Mapping[Cell, int], corner: float
) -> Order:
    """Lay out all rows.

    Args:
        similarity: similarity of rows, ``[rows, rows]``; or how well row j follows row i along each axis,
            ``[axes, rows, rows]``.
        grid: size of the grid; it has as many cells as there are rows.
        seed: first row; or several rows by cell, whose relative positions are kept.
        corner: weight of similarity to diagonal cells; 0 if similarity has a direction.

    Returns:
        Row at each cell, row-major; int64 ``[rows]``.
    """
    board = _Board(similarity, grid, corner)
    for cell, row in seed.items() if isinstance(seed, Mapping) else [((0,) * len(grid), seed)]:
        board.put(cell, row)
    board.grow()
    return board.layout()


def directed(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return similarity along each axis, ``[axes, rows, rows]``; the same for all axes if it has no direction."""
    return similarity if similarity.ndim == 3 else np.broadcast_to(similarity, (len(grid), *similarity.shape))


class _Board:
    """An unbounded board, and the fit of every row to every cell within reach.

    A cell is an index on a board of three times the grid along each axis: a layout that starts anywhere on the grid can
    grow by its size in both directions.
    """

    def __init__(self, similarity: npt.NDArray[Any], grid: tuple[int, ...], corner: float) -> None:
        along = directed(np.asarray(similarity, dtype=np.float32), grid)
        self._grid, self._board = grid, tuple(3 * size for size in grid)
        self._fit: dict[int, npt.NDArray[np.float32]] = {}
        self._choice: dict[int, tuple[float, int]] = {}
        self._held: dict[int, int] = {}
        self._within = np.ones(self._board, dtype=bool)  # reachable cells: free, and not too far from the others
        self._open = self._within.data.cast("B")  # the same memory, with faster access to single cells
        self._taken = np.zeros(similarity.shape[-1], dtype=np.float32)  # -inf for rows that are placed
        self._low: Cell = ()
        self._high: Cell = ()
        self._steps = [
            (self._number(step) - self._number((0,) * len(grid)), weight, _fit_at(along, step))
            for step, weight in _weights(grid, corner)
        ]

    def put(self, cell: Cell, row: int) -> None:
        """Place a row on a cell."""
        self._put(self._number(cell), row)

    def grow(self) -> None:
        """Place all other rows, each on the cell that fits best."""
        while len(self._held) < len(self._taken):
            self._put(*self._best())

    def layout(self) -> Order:
        """Return the row at each cell, after all rows are placed."""
        laid = np.empty(self._grid, dtype=np.int64)
        for cell, row in self._held.items():
            laid[tuple(np.array(self._place(cell)) - self._low)] = row
        return laid.reshape(-1)

    def _number(self, cell: Cell) -> int:
        return int(np.ravel_multi_index([at + size for at, size in zip(cell, self._grid, strict=True)], self._board))

    def _place(self, cell: int) -> Cell:
        return tuple(int(at) for at in np.unravel_index(cell, self._board))

    def _put(self, cell: int, row: int) -> None:
        self._held[cell], self._taken[row] = row, -np.inf
        self._open[cell] = False
        self._extend(self._place(cell))
        self._fit.pop(cell, None)
        self._choice.pop(cell, None)
        self._choice = {c: choice for c, choice in self._choice.items() if choice[1] != row}
        for step, weight, fits in self._steps:
            near = cell + step
            if not self._open[near]:
                continue
            fit = self._fit.get(near)
            if fit is None:
                fit = self._fit[near] = np.zeros(len(self._taken), dtype=np.float32)
            if weight:
                fit += fits[row] if weight == 1 else weight * fits[row]
            self._choice.pop(near, None)

    def _best(self) -> tuple[int, int]:
        """Return the cell and the row that fit best."""
        for cell, fit in self._fit.items():
            if cell not in self._choice:
                row = int((fit + self._taken).argmax())
                self._choice[cell] = float(fit[row]), row
        cell = max(self._choice, key=self._choice.__getitem__)
        return cell, self._choice[cell][1]

    def _extend(self, place: Cell) -> None:
        """Update the bounds of the layout, and remove cells that are no longer within reach."""
        low, high = tuple(map(min, self._low or place, place)), tuple(map(max, self._high or place, place))
        if (low, high) == (self._low, self._high):
            return
        self._low, self._high = low, high
        for axis, size in enumerate(self._grid):
            along = np.moveaxis(self._within, axis, 0)
            along[: high[axis] - size + 1] = along[low[axis] + size :] = False
        for cell in [cell for cell in self._fit if not self._open[cell]]:
            del self._fit[cell]
            self._choice.pop(cell, None)


def _fit_at(along: npt.NDArray[np.float32], step: Cell) -> npt.NDArray[np.float32]:
    """Return how well every row fits one step away from each row."""
    axis = next(axis for axis, size in enumerate(step) if size)
    fits: npt.NDArray[np.float32] = along[axis] if step[axis] > 0 else along[axis].T
    return fits


def _weights(grid: tuple[int, ...], corner: float) -> list[tuple[Cell, float]]:
    """Return the steps to adjacent and diagonal cells, with the weights of similarity."""
    steps = itertools.product(*((-1, 0, 1) if size > 1 else (0,) for size in grid))
    by_length = {1: 1.0, 2: corner}
    return [(step, by_length[length]) for step in steps if (length := sum(map(abs, step))) in by_length]
