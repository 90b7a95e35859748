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
_MIN_CHANCE_SIMILARITY: Final = 0.25


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """Similarity of two clips.

    Args:
        psnr: peak signal-to-noise ratio, dB; infinite if they are equal.
        ssim: mean structural similarity of their frames, -1..1.
        light: correlation of the mean values of their cubes, -1..1; compares what a thumbnail shows.
    """

    psnr: float
    ssim: float
    light: float

    def __str__(self) -> str:
        return f"{self.psnr:.1f} dB, SSIM {self.ssim:.2f}, light {self.light:.2f}"

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
    from skimage.metrics import structural_similarity

    frames = [geometry.from_cubes(np.asarray(cubes, dtype=np.float64), np) for cubes in (found, true)]
    error = float(((frames[0] - frames[1]) ** 2).mean())
    window = min(_WINDOW, (min(geometry.height, geometry.width) - 1) // 2 * 2 + 1)
    ssim = [
        structural_similarity(
            a,
            b,  # type: ignore[no-untyped-call]
            data_range=_RANGE,
            channel_axis=-1,
            win_size=window,
        )
        for a, b in zip(*frames, strict=True)
    ]
    light = _light(found.mean(axis=1), true.mean(axis=1), Space(grid=geometry.grid, symmetric=symmetric))
    return Similarity(
        light=light, psnr=10 * np.log10(_RANGE**2 / error) if error else float("inf"), ssim=float(np.mean(ssim))
    )


def chance_similarity(space: Space) -> float:
    """Return the largest mean similarity to clips under independent keys that counts as chance.

    The best of m correlations over n cubes is about the root of 2 ln m / n. The bound is twice that, but at least the
    similarity that flat parts of a clip cause.
    """
    symmetries = sum(1 for _ in space.symmetries())
    return max(_MIN_CHANCE_SIMILARITY, 2 * math.sqrt(2 * math.log(symmetries) / space.size))


def _light(found: npt.NDArray[Any], true: npt.NDArray[Any], space: Space) -> float:
    """Return the correlation of two series over the cubes under the best symmetry; 0 if one is constant."""
    if not found.std() or not true.std():
        return 0.0
    places = space.coordinates(np.arange(space.size))
    moved = (
        true[np.ravel_multi_index(tuple(s.applied(places, space.grid).T), (*space.grid, 1))] for s in space.symmetries()
    )
    return max(float(np.corrcoef(found, series)[0, 1]) for series in moved)
