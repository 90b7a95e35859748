"""Recover K1 from ciphertexts and K2: the cubes are the pieces of a jigsaw puzzle in space and time.

Grow greedily from several seeds, repair, and grow again from the largest consistent part.

Source: puzzles with square pieces (Cho and others, CVPR 2010; Pomeranz and others, CVPR 2011).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.embedding import lay_out_filters, plant_clear_filters
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.attacks.solvers.faces import face_similarity
from lcve_deploy.attacks.solvers.growing import grow_layout
from lcve_deploy.attacks.solvers.layout import invert_layout
from lcve_deploy.attacks.solvers.repairing import neighbour_fit, repair_layout
from lcve_deploy.attacks.value_order import lay_out_texture
from lcve_deploy.geometry import ClipGeometry

__all__ = ["plant_jigsaw", "plant_jigsaw_with_filters", "solve_jigsaw", "solve_jigsaw_with_filters"]

_SEEDS: Final = 3
_SLACKS: Final = (0, 1, 0, 1, 2, 6)
"""Number of neighbours that need not be a row's best partners for it to be kept, in each pass."""
_MAX_CLIPS: Final = 64
_PLANTED_CLIPS: Final = 8


def solve_jigsaw(holdings: Holdings) -> Estimate:
    """Assemble the cubes, with K2 as found by earlier attacks or else as estimated from the ciphertexts.

    Cubes of one pixel need no K2: the order of channels changes no similarity.
    """
    if holdings.ciphertexts is None:
        return Estimate()
    if math.prod(holdings.geometry.cube) == 1:
        in_order = np.arange(holdings.geometry.values)
        return Estimate(cubes=_assembled(holdings.ciphertexts, in_order, holdings.geometry).cubes)
    values = holdings.found.values if holdings.found else None
    if values is None:
        values = lay_out_texture(holdings).values
    if values is None:
        return Estimate()
    return _assembled(holdings.ciphertexts, values, holdings.geometry)


def solve_jigsaw_with_filters(holdings: Holdings) -> Estimate:
    """Assemble the cubes with K2 as estimated from the filters of the artifact."""
    values = lay_out_filters(holdings).values
    if holdings.ciphertexts is None or values is None:
        return Estimate()
    return _assembled(holdings.ciphertexts, values, holdings.geometry)


def plant_jigsaw(rng: np.random.Generator) -> Planted:
    """Return a few clips of real footage."""
    return plant_footage(CONTROL_GEOMETRY, _PLANTED_CLIPS, rng)


def plant_jigsaw_with_filters(rng: np.random.Generator) -> Planted:
    """Return clips of real footage, few of them, and smooth filters in the same order."""
    filters = plant_clear_filters(rng)
    footage = plant_footage(CONTROL_GEOMETRY, _PLANTED_CLIPS, rng)
    order = np.argsort(filters.truth.order("values"))[footage.truth.order("values")]
    artifact = {name: tensor.take(order, axis=0) for name, tensor in (filters.holdings.artifact or {}).items()}
    return replace(footage, holdings=replace(footage.holdings, artifact=artifact))


def _assembled(ciphertexts: Cubes, values: Order, geometry: ClipGeometry) -> Estimate:
    """Return the best layout of the cubes under one K2."""
    plain = ciphertexts[:_MAX_CLIPS].take(invert_layout(values), axis=2)
    similarity = face_similarity(plain, geometry)
    best = max(_layouts(similarity, geometry.grid), key=lambda layout: neighbour_fit(similarity, layout, geometry.grid))
    return Estimate(cubes=invert_layout(best), values=values)


def _layouts(similarity: npt.NDArray[Any], grid: tuple[int, ...]) -> Iterator[Order]:
    """Yield layouts grown from several seeds, and layouts grown again from the largest consistent part of each."""
    for seed in np.argsort(-similarity.max(axis=2).sum(axis=0))[:_SEEDS]:
        layout = repair_layout(similarity, grow_layout(similarity, grid, seed=int(seed), corner=0), grid)
        yield layout
        for slack in _SLACKS:
            held = _largest_consistent_part(similarity, layout, grid, slack)
            layout = repair_layout(similarity, grow_layout(similarity, grid, seed=held, corner=0), grid)
            layout = _best_shift(similarity, layout, grid)
            yield layout


def _best_shift(similarity: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]) -> Order:
    """Shift the layout cyclically along each axis to where it fits best, which undoes growth over an edge."""
    for axis, size in enumerate(grid):
        moved = [np.roll(layout.reshape(grid), step, axis).reshape(-1) for step in range(size)]
        layout = max(moved, key=lambda tried: neighbour_fit(similarity, tried, grid))
    return layout


def _largest_consistent_part(
    similarity: npt.NDArray[Any], layout: Order, grid: tuple[int, ...], slack: int
) -> dict[tuple[int, ...], int]:
    """Return the largest connected part whose neighbours are mutual best partners, up to ``slack`` for each row."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs, mutual = _pairs(similarity, layout, grid)
    size = len(layout)
    lacking = np.bincount(pairs[:, ~mutual].ravel(), minlength=size)
    firm = pairs[:, mutual & (lacking[pairs] <= slack).all(axis=0)]
    part = connected_components(coo_array((np.ones(firm.shape[1]), firm), shape=(size, size)), directed=False)[1]
    held = np.flatnonzero(part == np.bincount(part).argmax())
    return {tuple(map(int, np.unravel_index(cell, grid))): int(layout[cell]) for cell in held}


def _pairs(
    similarity: npt.NDArray[Any], layout: Order, grid: tuple[int, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return neighbouring cells, ``[2, pairs]``, and whether their rows are mutual best partners."""
    cells, pairs, mutual = np.arange(len(layout)).reshape(grid), [], []
    for axis, along in enumerate(similarity):
        first, second = np.delete(cells, -1, axis).ravel(), np.delete(cells, 0, axis).ravel()
        rows, after = layout[first], layout[second]
        pairs.append(np.stack([first, second]))
        mutual.append((along.argmax(axis=1)[rows] == after) & (along.argmax(axis=0)[after] == rows))
    return np.concatenate(pairs, axis=1), np.concatenate(mutual)
