"""Score how well one cube follows another along each axis, by the faces that would touch.

Each face is extrapolated by half a step from its last two layers; for true neighbours, both predictions agree. Their
difference is normalised for each clip, summed over clips, and compared with the best partners of either face: flat
faces agree with all flat faces, which is little evidence.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry

__all__ = ["face_similarity"]

Floats = npt.NDArray[Any]

_NOISE: Final = 2.0
_RIVAL_RANK: Final = 3
"""Rank of the partner whose distance is the scale for the others."""


def face_similarity(cubes: Floats, geometry: ClipGeometry) -> Floats:
    """Score how well cube j follows cube i along each axis, over all clips.

    Args:
        cubes: cubes with values in the plain order, ``[clips, N, L]``.
        geometry: geometry of the clips.

    Returns:
        Scores 0..1, ``[3, N, N]``; zero on the diagonal.
    """
    shape = (*geometry.cube, geometry.channels)
    distances = np.zeros((3, geometry.cubes, geometry.cubes), dtype=np.float32)
    for clip in cubes:
        pieces = clip.reshape(-1, *shape).astype(np.float32)
        for axis in range(3):
            distances[axis] += _disagreement(pieces, axis + 1)
    return np.stack([_against_rivals(distance) for distance in distances])


def _disagreement(pieces: Floats, axis: int) -> Floats:
    """Return the mean squared difference of both predictions at a seam, relative to a good fit, ``[N, N]``."""
    ends, starts = _beyond(np.flip(pieces, axis), axis), _beyond(pieces, axis)
    squares = (ends**2).sum(axis=1)[:, None] + (starts**2).sum(axis=1) - 2 * ends @ starts.T
    apart: Floats = np.maximum(squares, 0) / ends.shape[1]
    np.fill_diagonal(apart, np.inf)
    measure = np.median(apart.min(axis=1)) + _NOISE
    np.fill_diagonal(apart, 0)
    relative: Floats = apart / measure
    return relative


def _beyond(pieces: Floats, axis: int) -> Floats:
    """Extrapolate the first face of every piece by half a step; flat ``[N, face]``."""
    first = pieces.take(0, axis=axis)
    second = pieces.take(min(1, pieces.shape[axis] - 1), axis=axis)
    beyond: Floats = (first + (first - second) / 2).reshape(len(pieces), -1)
    return beyond


def _against_rivals(distance: Floats) -> Floats:
    """Convert distances to scores 0..1, relative to the distances of the best partners of either side."""
    if len(distance) == 1:
        return np.zeros_like(distance)
    others = distance.copy()
    np.fill_diagonal(others, np.inf)
    rank = min(_RIVAL_RANK, len(others) - 1) - 1
    following, leading = (np.partition(others, rank, axis=axis).take(rank, axis=axis) for axis in (1, 0))
    similarity: Floats = np.exp(-others / (following[:, None] + 1e-3)) * np.exp(-others / (leading + 1e-3))
    return np.sqrt(similarity)
