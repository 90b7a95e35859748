"""Recover K1 from the relative positions of an artifact alone: each index of BEiT's table names the offset of a pair.

The table is made by a public rule from the rows and columns of the grid. One row of it places all cubes.

Source: Hugging Face transformers, ``modeling_beit.py``, ``generate_relative_position_index``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted, Tensors
from lcve_deploy.attacks.planted.cases import random_truth
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.shapes import RELATIVE_INDEX

__all__ = ["offset_rows", "plant_relative", "read_relative"]

_GEOMETRY = ClipGeometry(frames=1, height=64, width=512, cube=(1, 8, 16))


def read_relative(holdings: Holdings) -> Estimate:
    """Read the offset of every cube from the first one; the least offsets are the first row and column."""
    _, _, width = holdings.geometry.grid
    index = _of_cubes(holdings.artifact, holdings.geometry)
    rows, columns = np.divmod(index[:, 0], 2 * width - 1)
    cubes = (rows - rows.min()) * width + columns - columns.min()
    return Estimate(cubes=cubes if np.array_equal(np.sort(cubes), np.arange(len(cubes))) else None)


def offset_rows(tensors: Tensors | None, geometry: ClipGeometry) -> npt.NDArray[np.float64]:
    """Return the sorted offsets of every cube, which do not depend on the order of the others; float64 ``[N, N]``."""
    rows: npt.NDArray[np.float64] = np.sort(_of_cubes(tensors, geometry), axis=1).astype(np.float64)
    return rows


def plant_relative(rng: np.random.Generator) -> Planted:
    """Return the shuffled index of a grid of 8 by 32, with one prefix token."""
    truth = random_truth(rng, geometry=_GEOMETRY)
    _, height, width = _GEOMETRY.grid
    rows, columns = np.divmod(np.arange(_GEOMETRY.cubes), width)
    offsets = np.subtract.outer(rows, rows) + height - 1, np.subtract.outer(columns, columns) + width - 1
    index = offsets[0] * (2 * width - 1) + offsets[1]
    order = truth.order("cubes")
    index = np.pad(index[np.ix_(order, order)], ((1, 0), (1, 0)), constant_values=index.max() + 1)
    return Planted(holdings=Holdings(geometry=_GEOMETRY, artifact={RELATIVE_INDEX: index}), truth=truth)


def _of_cubes(tensors: Tensors | None, geometry: ClipGeometry) -> Order:
    """Return the index without rows and columns of prefix tokens."""
    index = (tensors or {})[RELATIVE_INDEX]
    prefix = len(index) - geometry.cubes
    return index[prefix:, prefix:]
