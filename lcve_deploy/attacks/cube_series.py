"""Recover K1 from the statistics of cubes over many ciphertexts: neighbours have similar light and motion.

A shuffle keeps the quantiles of every cube, and so its mean, deviation and contrast. Over many clips they form a series
for each cube, and the series of neighbouring cubes are similar. Needs no K2.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.attacks.solvers.layout import invert_layout, lay_out

__all__ = ["lay_out_series", "plant_series"]

_QUANTILES: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)


def lay_out_series(holdings: Holdings) -> Estimate:
    """Lay out the cubes by their series, up to flips and exchanges of axes of equal size."""
    if holdings.ciphertexts is None:
        return Estimate()
    series = cube_series(holdings.ciphertexts)
    if not series.any():
        return Estimate()
    return Estimate(cubes=invert_layout(lay_out(series, holdings.geometry.grid)))


def cube_series(clips: Cubes) -> npt.NDArray[Any]:
    """Return the quantiles of every cube in every clip, minus their mean over the clip, ``[N, clips · quantiles]``."""
    ordered = np.sort(clips, axis=2)
    chosen = [round(share * (clips.shape[2] - 1)) for share in _QUANTILES]
    quantiles = ordered[:, :, chosen].astype(np.float64)
    quantiles -= quantiles.mean(axis=1, keepdims=True)
    return quantiles.transpose(1, 0, 2).reshape(clips.shape[1], -1)


def plant_series(rng: np.random.Generator) -> Planted:
    """Return many windows of real footage."""
    return plant_footage(CONTROL_GEOMETRY, 64, rng)
