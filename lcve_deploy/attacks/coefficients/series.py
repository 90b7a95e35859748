"""Recover K1 from encrypted clips alone: neighbouring cubes have similar light, colour and texture.

The strongest columns are the mean light and colours of cubes, and the energy of the others is their texture. They form
a series for each cube over all clips, and the series of neighbouring cubes are similar. Needs no K2.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.planted import PLANTED_STEP, encrypted, random_truth_with_signs
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import footage
from lcve_deploy.attacks.solvers.layout import invert_layout, lay_out
from lcve_deploy.clips import Scheme

__all__ = ["lay_out_coefficient_series", "plant_coefficient_series"]

_STRONGEST: Final = 6
_PLANTED_CLIPS: Final = 32


def lay_out_coefficient_series(holdings: Holdings) -> Estimate:
    """Lay out the cubes by their series, up to flips and exchanges of axes of equal size."""
    clips = holdings.ciphertexts
    if clips is None or not clips.any():
        return Estimate()
    return Estimate(cubes=invert_layout(lay_out(_series(clips), holdings.geometry.grid)))


def plant_coefficient_series(rng: np.random.Generator) -> Planted:
    """Return many windows of real footage."""
    geometry, truth = CONTROL_GEOMETRY, random_truth_with_signs(rng)
    plain = geometry.to_cubes(footage(geometry, _PLANTED_CLIPS, rng), np)
    cipher = encrypted(plain, truth, geometry, PLANTED_STEP)
    return Planted(holdings=Holdings(geometry=geometry, scheme=Scheme.DCT, ciphertexts=cipher), truth=truth)


def _series(clips: Cubes) -> npt.NDArray[Any]:
    """Return strongest columns, their sizes and the texture of every cube in every clip, ``[N, clips · features]``."""
    power = (clips.astype(np.float64) ** 2).sum(axis=(0, 1))
    order = np.argsort(-power)
    strong = clips[..., order[:_STRONGEST]].astype(np.float64)
    texture = np.log1p((clips[..., order[_STRONGEST:]].astype(np.float64) ** 2).sum(axis=2, keepdims=True))
    features = np.concatenate([strong[..., :3], np.log1p(np.abs(strong[..., 3:])), texture], axis=2)
    features -= features.mean(axis=1, keepdims=True)
    features /= features.std(axis=1, keepdims=True) + 1e-9
    features[..., 1:] /= 2
    return features.transpose(1, 0, 2).reshape(clips.shape[1], -1)
