"""Show what an attacker would see: a clip reordered by an estimate, and for coefficients transformed back."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.frequencies import to_values
from lcve_deploy.attacks.holdings import Cubes, Estimate, Order
from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry

__all__ = ["as_pixels", "decrypted", "frames_of", "put_in_order"]

_GREY: Final = 128
_FRAMES: Final = 4
_MAX_VALUE: Final = 255


def decrypted(cipher: Cubes, estimate: Estimate, geometry: ClipGeometry, scheme: Scheme) -> npt.NDArray[np.uint8]:
    """Return an encrypted clip ``[N, L]`` as someone with these orders and signs sees it.

    Without K2, coefficients are shown as they are. Unknown coefficients are zero.
    """
    if scheme is Scheme.LCVE or estimate.clip is not None:
        return put_in_order(cipher, estimate)
    if estimate.values is None:
        return _moved(as_pixels(cipher, scheme), estimate.cubes, axis=0)
    signs = 1 if estimate.signs is None else estimate.signs
    moved = _moved(cipher * signs, estimate.values, axis=1, empty=0)
    pixels: npt.NDArray[np.uint8] = np.round(to_values(moved, geometry)).astype(np.uint8)
    return _moved(pixels, estimate.cubes, axis=0)


def as_pixels(cipher: Cubes, scheme: Scheme) -> npt.NDArray[np.uint8]:
    """Return an encrypted clip in cubes, as someone without the key sees it; uint8."""
    levels = cipher if scheme is Scheme.LCVE else np.clip(cipher + _GREY, 0, _MAX_VALUE)
    pixels: npt.NDArray[np.uint8] = np.round(levels).astype(np.uint8)
    return pixels


def put_in_order(cipher: Cubes, estimate: Estimate) -> Cubes:
    """Move cubes and values of an encrypted clip to their estimated positions.

    Args:
        cipher: encrypted clip, uint8 ``[N, L]``.
        estimate: estimated orders; without an order nothing moves, and positions that no entry is moved to are grey.
            If it has a clip, that is returned instead.

    Returns:
        uint8 ``[N, L]``.
    """
    if estimate.clip is not None:
        pixels: Cubes = np.round(np.clip(estimate.clip, 0, 255)).astype(np.uint8)
        return pixels
    return _moved(_moved(cipher, estimate.values, axis=1), estimate.cubes, axis=0)


def frames_of(cubes: Cubes, geometry: ClipGeometry) -> npt.NDArray[np.uint8]:
    """Return a few frames of a clip in cubes side by side, uint8 RGB ``[H, frames · W, 3]``."""
    clip = geometry.from_cubes(cubes, np)
    wanted = np.unique(np.linspace(0, geometry.frames - 1, _FRAMES).round().astype(int))
    rgb = clip[wanted][..., np.arange(3) % geometry.channels]
    return np.ascontiguousarray(np.concatenate(list(rgb), axis=1))


def _moved(cubes: npt.NDArray[Any], order: Order | None, *, axis: int, empty: int = _GREY) -> npt.NDArray[Any]:
    """Move entry i to ``order[i]``."""
    if order is None:
        return cubes
    moved = np.full_like(cubes, empty)
    known = np.flatnonzero(order >= 0)
    if axis == 0:
        moved[order[known]] = cubes[known]
    else:
        moved[:, order[known]] = cubes[:, known]
    return moved
