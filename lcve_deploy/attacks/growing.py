"""Laying rows out on a grid, one by one from a seed, like a puzzle: for rows that resemble only their neighbours.

Greedy, free to grow in any direction until the grid is full along an axis. Each step puts the row and the
cell together that fit best to what is laid already: likeness to the cells beside it counts for it,
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
    while choice := board.best():
        board.put(*choice)
    return board.layout()


def directed(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> npt.NDArray[Any]:
    """Likeness of what follows along each axis ``[axes, rows, rows]``; the same along all where it has no direction."""
    return similarity if similarity.ndim == 3 else np.broadcast_to(similarity, (len(grid), *similarity.shape))


class _Board:
    """A board without edges, and the fit of every row to every cell of it that is still within reach."""

    def __init__(self, similarity: npt.NDArray[Any], grid: tuple[int, ...], corner: float) -> None:
        self._along, self._grid = directed(np.asarray(similarity, dtype=np.float32), grid), grid
        self._fit: dict[Cell, npt.NDArray[np.float32]] = {}
        self._choice: dict[Cell, tuple[float, int]] = {}
        self._held: dict[Cell, int] = {}
        self._free = np.ones(similarity.shape[-1], dtype=bool)
        self._low: Cell = ()
        self._high: Cell = ()
        self._weights = _weights(grid, corner)

    def put(self, cell: Cell, row: int) -> None:
        """Lay a row on a cell."""
        self._held[cell], self._free[row] = row, False
        low, high = tuple(map(min, self._low or cell, cell)), tuple(map(max, self._high or cell, cell))
        if (low, high) != (self._low, self._high):
            self._low, self._high = low, high
            self._prune()
        self._fit.pop(cell, None)
        self._choice.pop(cell, None)
        self._choice = {c: choice for c, choice in self._choice.items() if choice[1] != row}
        for step, weight in self._weights:
            near = tuple(a + b for a, b in zip(cell, step, strict=True))
            if near not in self._held and (near in self._fit or self._fits(near)):
                fit = self._fit.setdefault(near, np.zeros(len(self._free), dtype=np.float32))
                fit += weight * self._beside(row, step)
                self._choice.pop(near, None)

    def best(self) -> tuple[Cell, int] | None:
        """The cell and the row that fit best, or None where all is laid."""
        if not self._free.any():
            return None
        for cell, fit in self._fit.items():
            if cell not in self._choice:
                row = int(np.where(self._free, fit, -np.inf).argmax())
                self._choice[cell] = float(fit[row]), row
        cell = max(self._choice, key=lambda place: self._choice[place])
        return cell, self._choice[cell][1]

    def layout(self) -> Order:
        """Row at each cell, once all is laid."""
        laid = np.empty(self._grid, dtype=np.int64)
        for cell, row in self._held.items():
            laid[tuple(np.array(cell) - self._low)] = row
        return laid.reshape(-1)

    def _prune(self) -> None:
        """Forget cells that no longer fit the grid."""
        for cell in [cell for cell in self._fit if not self._fits(cell)]:
            del self._fit[cell]
            self._choice.pop(cell, None)

    def _beside(self, row: int, step: Cell) -> npt.NDArray[np.float32]:
        """How well every row fits one step from a row."""
        axis = next(axis for axis, size in enumerate(step) if size)
        fit: npt.NDArray[np.float32] = self._along[axis][row] if step[axis] > 0 else self._along[axis][:, row]
        return fit

    def _fits(self, cell: Cell) -> bool:
        """Whether all that is laid would still fit the grid with this cell."""
        bounds = zip(cell, self._low, self._high, self._grid, strict=True)
        return all(max(high, place) - min(low, place) < size for place, low, high, size in bounds)


def _weights(grid: tuple[int, ...], corner: float) -> list[tuple[Cell, float]]:
    """Steps to the cells beside and across a corner, and what likeness there counts."""
    steps = itertools.product(*((-1, 0, 1) if size > 1 else (0,) for size in grid))
    by_length = {1: 1.0, 2: corner}
    return [(step, by_length[length]) for step in steps if (length := sum(map(abs, step))) in by_length]
