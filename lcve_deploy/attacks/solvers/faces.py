"""How well one cube follows another along each axis, by the faces that would touch.

Each face is carried on to half a step beyond its cube, by its last two layers; where two cubes belong
together, the two predictions agree. Disagreement is summed over clips, each by its own measure, and read
against the best partners that either face has: flat faces agree with all flat faces, and say little.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry

__all__ = ["face_likeness"]

Floats = npt.NDArray[Any]

_NOISE: Final = 2.0
_RIVAL: Final = 3
"""The partner of this rank is the measure of what counts as near."""


def face_likeness(cubes: Floats, geometry: ClipGeometry) -> Floats:
    """How well cube j follows cube i along each axis, by all clips together.

    Args:
        cubes: with values in the plain order, ``[clips, N, L]``.
        geometry: of the clips.

    Returns:
        0..1, ``[3, N, N]``; zero for a cube and itself.
    """
    shape = (*geometry.cube, geometry.channels)
    distances = np.zeros((3, geometry.cubes, geometry.cubes), dtype=np.float32)
    for clip in cubes:
        pieces = clip.reshape(-1, *shape).astype(np.float32)
        for axis in range(3):
            distances[axis] += _disagreement(pieces, axis + 1)
    return np.stack([_against_rivals(distance) for distance in distances])


def _disagreement(pieces: Floats, axis: int) -> Floats:
    """Mean squared difference of the predictions on both sides of a seam, ``[N, N]``, over that of a good fit."""
    ends, starts = _beyond(np.flip(pieces, axis), axis), _beyond(pieces, axis)
    squares = (ends**2).sum(axis=1)[:, None] + (starts**2).sum(axis=1) - 2 * ends @ starts.T
    apart: Floats = np.maximum(squares, 0) / ends.shape[1]
    np.fill_diagonal(apart, np.inf)
    measure = np.median(apart.min(axis=1)) + _NOISE
    np.fill_diagonal(apart, 0)
    relative: Floats = apart / measure
    return relative


def _beyond(pieces: Floats, axis: int) -> Floats:
    """The first face of every piece, carried on by half a step; flat ``[N, face]``."""
    first = pieces.take(0, axis=axis)
    second = pieces.take(min(1, pieces.shape[axis] - 1), axis=axis)
    beyond: Floats = (first + (first - second) / 2).reshape(len(pieces), -1)
    return beyond


def _against_rivals(distance: Floats) -> Floats:
    """Likeness 0..1, from how far away the best few partners of either side are."""
    others = distance.copy()
    np.fill_diagonal(others, np.inf)
    rank = min(_RIVAL, len(others) - 1) - 1
    following, leading = (np.partition(others, rank, axis=axis).take(rank, axis=axis) for axis in (1, 0))
    likeness: Floats = np.exp(-others / (following[:, None] + 1e-3)) * np.exp(-others / (leading + 1e-3))
    return np.sqrt(likeness)
