"""Recover K1 from the positional encodings of an artifact alone: its rows are the plain rows in another order."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, scrambled, smooth_field
from lcve_deploy.attacks.solvers.assignment import match_rows, normalise_rows
from lcve_deploy.attacks.solvers.layout import invert_layout, lay_out
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import sinusoid_table

__all__ = ["lay_out_positions", "match_sinusoid", "plant_positions", "plant_sinusoid", "position_rows"]

_MIN_COSINE: Final = 0.9


def match_sinusoid(holdings: Holdings) -> Estimate:
    """Match the rows with the sinusoid table, which is public in the source code of VideoMAE.

    Other rows match the table poorly, which the attacker can see; in that case nothing is found.
    """
    rows = position_rows(holdings.artifact, holdings.geometry)
    table = sinusoid_table(*rows.shape)
    cubes = match_rows(rows, table)
    cosine = (normalise_rows(rows) * normalise_rows(table[cubes])).sum(axis=1).mean()
    return Estimate(cubes=cubes if cosine > _MIN_COSINE else None)


def lay_out_positions(holdings: Holdings) -> Estimate:
    """Lay out learned rows on the grid: those of neighbouring cubes are similar."""
    rows = position_rows(holdings.artifact, holdings.geometry)
    return Estimate(cubes=invert_layout(lay_out(rows, holdings.geometry.grid)))


def position_rows(tensors: Tensors | None, geometry: ClipGeometry) -> npt.NDArray[Any]:
    """Return the rows of cube tokens, without those of prefix tokens; float64 ``[N, D]``."""
    table = (tensors or {})["positional_encoding"]
    return np.asarray(table[len(table) - geometry.cubes :], dtype=np.float64)


def plant_sinusoid(rng: np.random.Generator) -> Planted:
    """Return the shuffled sinusoid table."""
    truth = random_truth(rng)
    table = sinusoid_table(CONTROL_GEOMETRY.cubes, 96)
    artifact = scrambled({"positional_encoding": table}, truth)
    return Planted(holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact), truth=truth)


def plant_positions(rng: np.random.Generator) -> Planted:
    """Return a shuffled table that is smooth over the grid, with noise."""
    truth = random_truth(rng)
    table = smooth_field(rng, CONTROL_GEOMETRY.grid, (2, 3, 3), features=96, noise=0.3)
    artifact = scrambled({"positional_encoding": table}, truth)
    return Planted(holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact), truth=truth)
