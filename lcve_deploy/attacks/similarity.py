"""Measure the similarity of a recovered clip to the true one: PSNR, SSIM (scikit-image), and mean light."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.score import Space
from lcve_deploy.geometry import ClipGeometry

__all__ = ["Similarity", "chance_similarity", "compare_clips"]

_RANGE: Final = 255.0
_WINDOW: Final = 7
_MIN_WINDOW: Final = 3
_MIN_CHANCE_SIMILARITY: Final = 0.25
_ROUNDING: Final = 1e-6
"""Deviation of equal means of cubes that were computed in floating point."""


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Similarity of two clips.

    Args:
        psnr: peak signal-to-noise ratio, dB; infinite if they are equal.
        ssim: mean structural similarity of their frames, -1..1; None if a frame is smaller than 3 by 3 pixels.
        light: correlation of the mean values of their cubes, -1..1; compares what a thumbnail shows. None if all cubes
            of the true clip have the same mean.
    """

    psnr: float
    ssim: float | None
    light: float | None

    def __str__(self) -> str:
        ssim, light = ("-" if score is None else f"{score:.2f}" for score in (self.ssim, self.light))
        return f"{self.psnr:.1f} dB, SSIM {ssim}, light {light}"

    def to_json(self) -> dict[str, float | None]:
        """Return the figures as plain values; None for an infinite one."""
        return {"psnr": self.psnr if np.isfinite(self.psnr) else None, "ssim": self.ssim, "light": self.light}


def compare_clips(
    found: npt.NDArray[Any], true: npt.NDArray[Any], geometry: ClipGeometry, *, symmetric: bool = False
) -> Similarity:
    """Compare two clips in cubes ``[N, L]``, values 0..255.

    Args:
        found: recovered clip.
        true: true clip.
        geometry: geometry of both.
        symmetric: compare ``light`` under the best symmetry of the grid.
    """
    first, second = (geometry.from_cubes(np.asarray(cubes, dtype=np.float64), np) for cubes in (found, true))
    error = float(((first - second) ** 2).mean())
    light = _light(found.mean(axis=1), true.mean(axis=1), Space(grid=geometry.grid, symmetric=symmetric))
    return Similarity(
        light=light,
        psnr=float(10 * np.log10(_RANGE**2 / error)) if error else float("inf"),
        ssim=_ssim(first, second, min(geometry.height, geometry.width)),
    )


def chance_similarity(space: Space) -> float:
    """Return the largest mean similarity to clips under independent keys that counts as chance.

    The best of m correlations over n cubes is about the root of 2 ln m / n. The bound is twice that, but at least the
    similarity that flat parts of a clip cause.
    """
    return max(_MIN_CHANCE_SIMILARITY, 2 * math.sqrt(2 * math.log(space.symmetry_count) / space.size))


def _ssim(found: npt.NDArray[Any], true: npt.NDArray[Any], side: int) -> float | None:
    """Return the mean structural similarity of frames ``[T, H, W, C]`` whose shorter side has ``side`` pixels."""
    from skimage.metrics import structural_similarity

    window = min(_WINDOW, (side - 1) // 2 * 2 + 1)
    if window < _MIN_WINDOW:
        return None
    of_frames = [
        structural_similarity(  # type: ignore[no-untyped-call]
            a, b, data_range=_RANGE, channel_axis=-1, win_size=window
        )
        for a, b in zip(found, true, strict=True)
    ]
    return _bounded(float(np.mean(of_frames)))


def _light(found: npt.NDArray[Any], true: npt.NDArray[Any], space: Space) -> float | None:
    """Return the correlation of two series over the cubes under the best symmetry.

    It is 0 if only the found one is constant, and None if the true one is.
    """
    if true.std() < _ROUNDING:
        return None
    if found.std() < _ROUNDING:
        return 0.0
    places = space.coordinates(np.arange(space.size))
    moved = (
        true[np.ravel_multi_index(tuple(s.applied(places, space.grid).T), (*space.grid, 1))] for s in space.symmetries()
    )
    return _bounded(max(float(np.corrcoef(found, series)[0, 1]) for series in moved))


def _bounded(score: float) -> float:
    """Return a score from -1 to 1 without the error of rounding."""
    return min(max(score, -1.0), 1.0)
