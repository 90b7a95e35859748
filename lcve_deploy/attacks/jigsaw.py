"""K1 from ciphertexts and K2: the cubes are the pieces of a puzzle in space and time.

Greedy growth from several seeds, then repair, then growth again from the largest part that holds together.

Source: puzzles with square pieces (Cho and others, CVPR 2010; Pomeranz and others, CVPR 2011).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.attacks.solvers.faces import face_likeness
from lcve_deploy.attacks.solvers.growing import grow_layout
from lcve_deploy.attacks.solvers.layout import placed
from lcve_deploy.attacks.solvers.repairing import neighbour_fit, repair_layout
from lcve_deploy.attacks.value_order import lay_out_texture

__all__ = ["plant_jigsaw", "solve_jigsaw"]

_SEEDS: Final = 3
_SLACKS: Final = (0, 1, 0, 1, 2, 6)
"""How many neighbours of a row may not be its best partners, in turn, for it to be kept."""
_MAX_CLIPS: Final = 64


def solve_jigsaw(holdings: Holdings) -> Estimate:
    """Put the cubes together, by K2 as far as it has been found, and else as the ciphertexts say."""
    if holdings.ciphertexts is None:
        return Estimate()
    geometry = holdings.geometry
    values = holdings.found.values if holdings.found else None
    if values is None:
        values = lay_out_texture(holdings).values
    if values is None:
        return Estimate()
    plain = holdings.ciphertexts[:_MAX_CLIPS].take(placed(values), axis=2)
    likeness = face_likeness(plain, geometry)
    best = max(_layouts(likeness, geometry.grid), key=lambda layout: neighbour_fit(likeness, layout, geometry.grid))
    return Estimate(cubes=placed(best), values=values)


def plant_jigsaw(rng: np.random.Generator) -> Planted:
    """A few clips of real footage."""
    return plant_footage(CONTROL_GEOMETRY, 8, rng)


def _layouts(likeness: npt.NDArray[Any], grid: tuple[int, ...]) -> Iterator[Order]:
    """Grown from several seeds; and each grown again, as often as that fits better, from what holds together."""
    for seed in np.argsort(-likeness.max(axis=2).sum(axis=0))[:_SEEDS]:
        layout = repair_layout(likeness, grow_layout(likeness, grid, seed=int(seed), corner=0), grid)
        yield layout
        for slack in _SLACKS:
            held = _holding_together(likeness, layout, grid, slack)
            layout = repair_layout(likeness, grow_layout(likeness, grid, seed=held, corner=0), grid)
            layout = _rolled(likeness, layout, grid)
            yield layout


def _rolled(likeness: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]) -> Order:
    """The layout moved round along each axis to where it fits best: what grew over an edge comes back."""
    for axis, size in enumerate(grid):
        moved = [np.roll(layout.reshape(grid), step, axis).reshape(-1) for step in range(size)]
        layout = max(moved, key=lambda tried: neighbour_fit(likeness, tried, grid))
    return layout


def _holding_together(
    likeness: npt.NDArray[Any], layout: Order, grid: tuple[int, ...], slack: int
) -> dict[tuple[int, ...], int]:
    """The largest part of a layout whose neighbours are each other's best partners, all but ``slack`` of a row's."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs, mutual = _pairs(likeness, layout, grid)
    size = len(layout)
    lacking = np.bincount(pairs[:, ~mutual].ravel(), minlength=size)
    firm = pairs[:, mutual & (lacking[pairs] <= slack).all(axis=0)]
    part = connected_components(coo_array((np.ones(firm.shape[1]), firm), shape=(size, size)), directed=False)[1]
    held = np.flatnonzero(part == np.bincount(part).argmax())
    return {tuple(map(int, np.unravel_index(cell, grid))): int(layout[cell]) for cell in held}


def _pairs(
    likeness: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Cells side by side, ``[2, pairs]``, and whether their rows are each other's best partners."""
    cells, pairs, mutual = np.arange(len(layout)).reshape(grid), [], []
    for axis, along in enumerate(likeness):
        first, second = np.delete(cells, -1, axis).ravel(), np.delete(cells, 0, axis).ravel()
        rows, after = layout[first], layout[second]
        pairs.append(np.stack([first, second]))
        mutual.append((along.argmax(axis=1)[rows] == after) & (along.argmax(axis=0)[after] == rows))
    return np.concatenate(pairs, axis=1), np.concatenate(mutual)
