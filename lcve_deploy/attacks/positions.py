"""K1 from the positional encodings of an artifact alone: its rows are the plain ones in another order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, scrambled, smooth_field
from lcve_deploy.attacks.solvers.assignment import match_rows, unit_rows
from lcve_deploy.attacks.solvers.layout import lay_out, placed
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import sinusoid_table

__all__ = ["lay_out_positions", "match_sinusoid", "plant_positions", "plant_sinusoid", "position_rows"]

_ALIKE: Final = 0.9


def match_sinusoid(holdings: Holdings) -> Estimate:
    """Match the rows with the sinusoid table that VideoMAE computes: it is in its source code.

    Rows that are not of that table match it badly, which the attacker sees; then nothing is found.
    """
    rows = position_rows(holdings.artifact, holdings.geometry)
    table = sinusoid_table(*rows.shape)
    cubes = match_rows(rows, table)
    alike = (unit_rows(rows) * unit_rows(table[cubes])).sum(axis=1).mean()
    return Estimate(cubes=cubes if alike > _ALIKE else None)


def lay_out_positions(holdings: Holdings) -> Estimate:
    """Lay learned rows out on the grid: those of neighbouring cubes resemble each other."""
    rows = position_rows(holdings.artifact, holdings.geometry)
    return Estimate(cubes=placed(lay_out(rows, holdings.geometry.grid)))


def position_rows(tensors: Tensors | None, geometry: ClipGeometry) -> npt.NDArray[Any]:
    """The rows of cube tokens, without those of prefix tokens; float64 ``[N, D]``."""
    table = (tensors or {})["positional_encoding"]
    return np.asarray(table[len(table) - geometry.cubes :], dtype=np.float64)


def plant_sinusoid(rng: np.random.Generator) -> Planted:
    """The sinusoid table, shuffled."""
    truth = random_truth(rng)
    table = sinusoid_table(CONTROL_GEOMETRY.cubes, 96)
    artifact = scrambled({"positional_encoding": table}, truth)
    return Planted(holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact), truth=truth)


def plant_positions(rng: np.random.Generator) -> Planted:
    """A table that is smooth over the grid, with noise, shuffled."""
    truth = random_truth(rng)
    table = smooth_field(rng, CONTROL_GEOMETRY.grid, (2, 3, 3), features=96, noise=0.3)
    artifact = scrambled({"positional_encoding": table}, truth)
    return Planted(holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact), truth=truth)
