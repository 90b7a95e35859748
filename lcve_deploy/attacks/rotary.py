"""Recover K1 from the rotary tables of an artifact alone: the angles of a row are the position of its cube.

A table repeats a few frequencies for each axis of the grid, and the slow ones rise with the position. So no knowledge
of the model's family is needed: levels of a column that are equally far apart, as many as an axis has places, are
positions along that axis.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, scrambled
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.shapes import ROTARY_COS, ROTARY_SIN

__all__ = ["plant_rotary", "read_rotary", "rotary_rows"]

_MAX_DEVIATION: Final = 0.1
_PLANTED_FREQUENCIES: Final = 1000.0 ** -(np.arange(4) / 4)

Floats = npt.NDArray[Any]


def read_rotary(holdings: Holdings) -> Estimate:
    """Read the position along each axis from the columns. Axes of equal length are told apart by the columns' order."""
    grid = holdings.geometry.grid
    rows = rotary_rows(holdings.artifact, holdings.geometry)
    places = _places(_angles(rows), grid)
    if places is None:
        return Estimate()
    cubes = np.ravel_multi_index(places, grid)
    return Estimate(cubes=cubes if len(np.unique(cubes)) == len(cubes) else None)


def rotary_rows(tensors: Tensors | None, geometry: ClipGeometry) -> Floats:
    """Return the cosines and sines of cube tokens, without those of prefix tokens; float64 ``[N, 2, head width]``."""
    tables = tensors or {}
    rows = np.stack([tables[ROTARY_COS], tables[ROTARY_SIN]], axis=1).astype(np.float64)
    return rows[len(rows) - geometry.cubes :]


def plant_rotary(rng: np.random.Generator) -> Planted:
    """Return shuffled tables of a time, row and column axis, after the row of one prefix token."""
    truth = random_truth(rng)
    positions = np.indices(CONTROL_GEOMETRY.grid).reshape(3, -1)
    angles = np.concatenate([axis[:, None] * _PLANTED_FREQUENCIES for axis in positions], axis=1)
    tables = {
        ROTARY_COS: np.tile(np.cos(angles), 2),
        ROTARY_SIN: np.concatenate([-np.sin(angles), np.sin(angles)], axis=1),
    }
    artifact = {
        name: np.pad(table, ((1, 0), (0, 0)), constant_values=float(name == ROTARY_COS))
        for name, table in scrambled(tables, truth).items()
    }
    return Planted(holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact), truth=truth)


def _angles(rows: Floats) -> Floats:
    """Return the angle of each column, ``[N, head width]``."""
    cos, sin = rows[:, 0], rows[:, 1].copy()
    sin[:, : sin.shape[1] // 2] *= -1  # the common form changes the sign of the first half
    return np.arctan2(sin, cos)


def _places(angles: Floats, grid: tuple[int, ...]) -> tuple[Order, ...] | None:
    """Return the position of each row along each axis; None unless the columns show as many axes as there are."""
    votes = {size: Counter(_levels(angles, size)) for size in set(grid) if size > 1}
    found: dict[int, list[Order]] = {}
    for size, counted in votes.items():
        best = {levels for levels, _ in counted.most_common(grid.count(size))}
        found[size] = [np.frombuffer(levels, np.int64) for levels in counted if levels in best]
        if len(found[size]) < grid.count(size):
            return None
    return tuple(found[size].pop(0) if size > 1 else np.zeros(len(angles), np.int64) for size in grid)


def _levels(angles: Floats, size: int) -> list[bytes]:
    """Return the level of every row, for each column that has this number of levels, as frequent as each other."""
    spread = np.ptp(angles, axis=0)
    columns = (angles - angles.min(axis=0)) / np.where(spread > 0, spread, 1) * (size - 1)
    levels = np.round(columns).astype(np.int64)
    near = (np.abs(columns - levels) < _MAX_DEVIATION).all(axis=0)
    return [
        column.tobytes()
        for column in levels[:, near].T
        if (np.bincount(column, minlength=size) == len(column) // size).all()
    ]
