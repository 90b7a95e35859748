"""K1 from the statistics of cubes over many ciphertexts: neighbouring places see the same light and motion.

A shuffle keeps the set of values of every cube. Its quantiles (and so its mean, its deviation, its contrast)
are a series over clips at every place, and series of neighbours resemble each other. No K2 is needed.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.attacks.solvers.layout import lay_out, placed

__all__ = ["lay_out_series", "plant_series"]

_QUANTILES: Final = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)


def lay_out_series(holdings: Holdings) -> Estimate:
    """Lay the cubes out by their series; up to flips and exchanges of equal sides."""
    if holdings.ciphertexts is None:
        return Estimate()
    series = cube_series(holdings.ciphertexts)
    if not series.any():
        return Estimate()
    return Estimate(cubes=placed(lay_out(series, holdings.geometry.grid)))


def cube_series(clips: Cubes) -> npt.NDArray[Any]:
    """Quantiles of every cube in every clip, less those of the clip, ``[N, clips · quantiles]``."""
    ordered = np.sort(clips, axis=2)
    chosen = [round(share * (clips.shape[2] - 1)) for share in _QUANTILES]
    quantiles = ordered[:, :, chosen].astype(np.float64)
    quantiles -= quantiles.mean(axis=1, keepdims=True)
    return quantiles.transpose(1, 0, 2).reshape(clips.shape[1], -1)


def plant_series(rng: np.random.Generator) -> Planted:
    """Many windows of real footage."""
    return plant_footage(CONTROL_GEOMETRY, 64, rng)
