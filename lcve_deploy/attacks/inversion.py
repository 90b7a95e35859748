"""Invert the tokens Wx, which the server computes, if the embedding W is known in the plain order.

A token has fewer numbers than a cube has values, so it does not determine the cube. The estimates are the minimum-norm
clip with these tokens, and the most probable one under the statistics of natural video.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, film
from lcve_deploy.geometry import ClipGeometry

__all__ = ["invert_likeliest", "invert_minimum_norm", "plant_tokens"]

Floats = npt.NDArray[np.floating]

_GREY: Final = 127.5
_MAX_VALUE: Final = 255.0
_CORRELATIONS: Final = {"time": 0.97, "space": 0.95, "channel": 0.9}
"""Approximate correlation of neighbouring values in natural video."""
_NOISE: Final = 1e-6


def invert_minimum_norm(holdings: Holdings) -> Estimate:
    """Return the clip with these tokens that is nearest to uniform grey."""
    weight, tokens = _seen(holdings)
    return Estimate(clip=_clipped(tokens @ np.linalg.pinv(weight)))


def invert_likeliest(holdings: Holdings) -> Estimate:
    """Return the most probable clip with these tokens if neighbouring values are correlated."""
    weight, tokens = _seen(holdings)
    prior = _correlation(holdings.geometry)
    seen = weight.T @ prior @ weight
    seen += _NOISE * np.trace(seen) / len(seen) * np.eye(len(seen))
    return Estimate(clip=_clipped(tokens @ np.linalg.solve(seen, weight.T @ prior)))


def plant_tokens(rng: np.random.Generator) -> Planted:
    """Return the tokens of a real clip under a random embedding, three quarters as wide as a cube has values."""
    geometry, clip = CONTROL_GEOMETRY, film()[0]
    weight = rng.standard_normal((geometry.values, geometry.values * 3 // 4))
    return Planted(
        holdings=Holdings(geometry=geometry, embedding=weight, tokens=clip @ weight), truth=Estimate(clip=clip)
    )


def _seen(holdings: Holdings) -> tuple[Floats, Floats]:
    """Return the embedding ``[L, D]``, and the tokens minus those of uniform grey ``[N, D]``; float64."""
    if holdings.embedding is None or holdings.tokens is None:
        raise ValueError("expected an embedding and tokens, received none")
    weight = np.asarray(holdings.embedding, dtype=np.float64)
    return weight, holdings.tokens - _GREY * weight.sum(axis=0)


def _clipped(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    clipped: npt.NDArray[np.float64] = np.clip(values + _GREY, 0, _MAX_VALUE)
    return clipped


def _correlation(geometry: ClipGeometry) -> npt.NDArray[np.float64]:
    """Return the correlation of the values of a cube, ``[L, L]``, which decays with distance in time and space."""
    (t, h, w), c = geometry.cube, geometry.channels
    steps = (
        (t, _CORRELATIONS["time"]),
        (h, _CORRELATIONS["space"]),
        (w, _CORRELATIONS["space"]),
    )
    correlation: npt.NDArray[np.float64] = np.eye(1)
    for size, step_correlation in steps:
        apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
        correlation = np.kron(correlation, step_correlation**apart).astype(np.float64)
    channels = np.where(np.eye(c, dtype=bool), 1.0, _CORRELATIONS["channel"])
    return np.kron(correlation, channels).astype(np.float64)
