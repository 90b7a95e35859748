"""Laying rows out on a grid, one by one from a seed, like a puzzle: for rows that resemble only their neighbours.

Greedy, free to grow in any direction until the grid is full along an axis. Each step puts the row and the
cell together that fit best to what is laid already: likeness to the cells next to it counts for it,
likeness to the cells across a corner a little against it.
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
"""What likeness across a corner may count: nothing, or something against it."""

Cell = tuple[int, ...]


def grow_layout(
    similarity: npt.NDArray[Any], grid: tuple[int, ...], *, seed: int | Mapping[Cell, int], corner: float
) -> Order:
    """Lay all rows out.

    Args:
        similarity: of rows to rows, ``[rows, rows]``; or how well row j follows row i along each axis,
            ``[axes, rows, rows]``.
        grid: its size is the number of rows.
        seed: row to begin with; or several, by cell: where they lie to each other is kept, and may move as a whole.
        corner: weight of likeness across a corner; 0 where likeness has a direction.

    Returns:
        Row at each cell, row-major; int64 ``[rows]``.
    """
    board = _Board(similarity, grid, corner)
    for cell, row in seed.items() if isinstance(seed, Mapping) else [((0,) * len(grid), seed)]:
        board.put(cell, row)
    board.grow()
    return board.layout()


def directed(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> npt.NDArray[Any]:
    """Likeness of what follows along each axis ``[axes, rows, rows]``; the same along all where it has no direction."""
    return similarity if similarity.ndim == 3 else np.broadcast_to(similarity, (len(grid), *similarity.shape))


class _Board:
    """A board without edges, and the fit of every row to every cell of it that is still within reach.

    A cell is one number, its place on a board that is three times the grid along each axis: what is laid may begin
    anywhere on the grid, and grow by its size to either side.
    """

    def __init__(self, similarity: npt.NDArray[Any], grid: tuple[int, ...], corner: float) -> None:
        along = directed(np.asarray(similarity, dtype=np.float32), grid)
        self._grid, self._board = grid, tuple(3 * size for size in grid)
        self._fit: dict[int, npt.NDArray[np.float32]] = {}
        self._choice: dict[int, tuple[float, int]] = {}
        self._held: dict[int, int] = {}
        self._within = np.ones(self._board, dtype=bool)  # reach: neither laid nor too far from what is laid
        self._open = self._within.data.cast("B")  # the same, quicker to look a cell up in
        self._taken = np.zeros(similarity.shape[-1], dtype=np.float32)  # what makes a row that is laid fit nowhere
        self._low: Cell = ()
        self._high: Cell = ()
        self._steps = [
            (self._number(step) - self._number((0,) * len(grid)), weight, _beside(along, step))
            for step, weight in _weights(grid, corner)
        ]

    def put(self, cell: Cell, row: int) -> None:
        """Lay a row on a cell."""
        self._put(self._number(cell), row)

    def grow(self) -> None:
        """Lay all other rows, each time on the cell that fits best."""
        while len(self._held) < len(self._taken):
            self._put(*self._best())

    def layout(self) -> Order:
        """Row at each cell, once all is laid."""
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
        for step, weight, beside in self._steps:
            near = cell + step
            if not self._open[near]:
                continue
            fit = self._fit.get(near)
            if fit is None:
                fit = self._fit[near] = np.zeros(len(self._taken), dtype=np.float32)
            if weight:
                fit += beside[row] if weight == 1 else weight * beside[row]
            self._choice.pop(near, None)

    def _best(self) -> tuple[int, int]:
        """The cell and the row that fit best."""
        for cell, fit in self._fit.items():
            if cell not in self._choice:
                row = int((fit + self._taken).argmax())
                self._choice[cell] = float(fit[row]), row
        cell = max(self._choice, key=self._choice.__getitem__)
        return cell, self._choice[cell][1]

    def _extend(self, place: Cell) -> None:
        """Note where what is laid begins and ends, and forget cells that no longer fit the grid."""
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


def _beside(along: npt.NDArray[np.float32], step: Cell) -> npt.NDArray[np.float32]:
    """How well every row fits one step from each row."""
    axis = next(axis for axis, size in enumerate(step) if size)
    beside: npt.NDArray[np.float32] = along[axis] if step[axis] > 0 else along[axis].T
    return beside


def _weights(grid: tuple[int, ...], corner: float) -> list[tuple[Cell, float]]:
    """Steps to the cells next to it and across a corner, and what likeness there counts."""
    steps = itertools.product(*((-1, 0, 1) if size > 1 else (0,) for size in grid))
    by_length = {1: 1.0, 2: corner}
    return [(step, by_length[length]) for step in steps if (length := sum(map(abs, step))) in by_length]
