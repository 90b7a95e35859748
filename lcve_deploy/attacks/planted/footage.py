"""Real footage for planted cases: random windows, flips and colours of the built-in film."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Planted
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.samples import real_clips

__all__ = ["footage", "plant_footage"]

_STORED: tuple[int, int, int] = (16, 96, 96)
_MIN_GAIN, _MAX_GAIN = 0.6, 1.0


def footage(geometry: ClipGeometry, count: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return windows of a real film, each with random flips, crop and channel gains.

    Args:
        geometry: geometry of the clips; at most 16 frames of 96 x 96 pixels.
        count: number of clips.
        rng: random generator.

    Returns:
        Clips ``[count, T, H, W, C]``, uint8.
    """
    frames, rows, columns = _STORED
    film = real_clips(
        ClipGeometry(frames=frames, height=rows, width=columns, channels=geometry.channels, cube=(1, 8, 8))
    )
    return np.stack([_window(film[clip % len(film)], geometry, rng) for clip in range(count)])


def plant_footage(geometry: ClipGeometry, count: int, rng: np.random.Generator) -> Planted:
    """Return footage encrypted with random orders; the truth includes the first clip."""
    plain: Cubes = geometry.to_cubes(footage(geometry, count, rng), np)
    cubes, values = rng.permutation(geometry.cubes), rng.permutation(geometry.values)
    holdings = Holdings(geometry=geometry, ciphertexts=plain.take(cubes, axis=1).take(values, axis=2))
    return Planted(holdings=holdings, truth=Estimate(cubes=cubes, values=values, clip=plain[0]))


def _window(film: npt.NDArray[np.uint8], geometry: ClipGeometry, rng: np.random.Generator) -> npt.NDArray[Any]:
    for axis in range(3):
        if rng.random() < 0.5:
            film = np.flip(film, axis)
    size = geometry.frames, geometry.height, geometry.width
    starts = [int(rng.integers(stored - wanted + 1)) for stored, wanted in zip(film.shape, size, strict=False)]
    window = film[tuple(slice(start, start + wanted) for start, wanted in zip(starts, size, strict=True))]
    gain = rng.uniform(_MIN_GAIN, _MAX_GAIN, geometry.channels)
    return np.round(window * gain).astype(np.uint8)
