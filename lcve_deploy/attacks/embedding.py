"""Recover K2 from the columns of the cube embedding alone: neighbouring values of a cube have similar filters.

The filters of the channels of one pixel are the most similar, so values are first grouped into pixels. If the frames of
a cube have nearly the same filters, values are also grouped into columns through time. Then the groups are laid out,
and the members of all groups are brought into the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, scrambled, smooth_field
from lcve_deploy.attacks.solvers.assignment import assign, cosine_similarity, normalise_rows
from lcve_deploy.attacks.solvers.layout import lay_out, neighbour_similarity
from lcve_deploy.geometry import ClipGeometry

__all__ = ["in_one_order", "lay_out_filters", "lay_out_values", "plant_clear_filters", "plant_filters"]

Rows = npt.NDArray[Any]
Members = npt.NDArray[np.int64]


def lay_out_values(rows: Rows, geometry: ClipGeometry) -> Order:
    """Lay out the values of a cube by the similarity of their features.

    Args:
        rows: features of each encrypted value, float ``[L, features]``.
        geometry: geometry of the clip.

    Returns:
        Estimate of K2, up to flips, exchanges of axes of equal size and the order of channels; int64 ``[L]``.
    """
    units = normalise_rows(rows)
    layout = max(_layouts(units, geometry), key=lambda chosen: _pixel_similarity(units, chosen, geometry.cube))
    order = np.empty(geometry.values, dtype=np.int64)
    order[layout.reshape(-1)] = np.arange(geometry.values)
    return order


def _layouts(rows: Rows, geometry: ClipGeometry) -> Iterator[Members]:
    """Yield two layouts, the row at each value ``[pixels, channels]``: grouped by pixel, and by column through time."""
    (t, h, w), channels = geometry.cube, geometry.channels
    yield _laid(rows, _group_similar(rows, channels), (t, h, w))
    if t > 1:
        places = _laid(rows, _group_similar(rows, t * channels), (h, w))
        slots = rows[places].transpose(1, 0, 2).reshape(t * channels, -1)
        frames = in_one_order(_group_similar(slots, t), slots, (channels,))
        yield places[:, frames.T].transpose(1, 0, 2).reshape(-1, channels)


def _laid(rows: Rows, groups: Members, grid: tuple[int, ...]) -> Members:
    """Lay out groups by the means of their rows, and bring their members into the same order."""
    return in_one_order(groups[lay_out(normalise_rows(rows[groups].mean(axis=1)), grid)], rows, grid)


def _pixel_similarity(rows: Rows, layout: Members, cube: tuple[int, int, int]) -> float:
    means = rows[layout].mean(axis=1)
    return neighbour_similarity(cosine_similarity(means, means), np.arange(len(means)), cube)


def _group_similar(rows: Rows, size: int) -> Members:
    """Return groups of similar rows, ``[groups, size]``; rows that remain at the end are grouped arbitrarily."""
    if size == 1:
        return np.arange(len(rows))[:, None]
    similarity = cosine_similarity(rows, rows)
    first, second = np.triu_indices(len(rows), 1)
    groups = {row: [row] for row in range(len(rows))}
    for pair in np.argsort(-similarity[first, second]):
        a, b = groups[int(first[pair])], groups[int(second[pair])]
        if a is not b and len(a) + len(b) <= size:
            a.extend(b)
            groups.update((row, a) for row in b)
    distinct = {id(group): group for group in groups.values()}.values()
    whole = [group for group in distinct if len(group) == size]
    rest = [row for group in distinct if len(group) < size for row in group]
    return np.array([*whole, *(rest[i : i + size] for i in range(0, len(rest), size))])


def in_one_order(groups: Members, rows: Rows, grid: Sequence[int]) -> Members:
    """Order the members of every group like those of its preceding neighbours, ``[cells, size]``."""
    ordered = groups.copy()
    laid = np.arange(len(groups)).reshape(tuple(grid))
    for cell, place in enumerate(np.ndindex(*grid)):
        before = [
            laid[(*place[:axis], place[axis] - 1, *place[axis + 1 :])] for axis in range(len(grid)) if place[axis]
        ]
        if before:
            pattern = rows[ordered[before]].mean(axis=0)
            ordered[cell] = groups[cell][assign(cosine_similarity(pattern, rows[groups[cell]]))]
    return ordered


def lay_out_filters(holdings: Holdings) -> Estimate:
    """Estimate K2 from the columns of the cube embedding."""
    columns = (holdings.artifact or {})["cube_embedding.weight"]
    return Estimate(values=lay_out_values(columns, holdings.geometry))


def plant_filters(rng: np.random.Generator) -> Planted:
    """Return shuffled filters that are smooth over a cube and similar in all channels, with noise."""
    return _planted(rng, length=(1, 1.2, 1.2), features=96, own=0.5, noise=0.05)


def plant_clear_filters(rng: np.random.Generator) -> Planted:
    """Return shuffled filters that are smoother, of more features and without noise, for attacks that build on them."""
    return _planted(rng, length=(1.5, 1.5, 1.5), features=384, own=0.3, noise=0)


def _planted(
    rng: np.random.Generator, *, length: tuple[float, float, float], features: int, own: float, noise: float
) -> Planted:
    truth, geometry = random_truth(rng), CONTROL_GEOMETRY
    common = smooth_field(rng, geometry.cube, length, features=features, noise=0)
    of_channels = smooth_field(rng, geometry.cube, length, features=features * geometry.channels, noise=noise)
    columns = common[:, None] + own * of_channels.reshape(len(common), geometry.channels, -1)
    artifact = scrambled({"cube_embedding.weight": columns.reshape(geometry.values, -1)}, truth)
    return Planted(holdings=Holdings(geometry=geometry, artifact=artifact), truth=truth)
