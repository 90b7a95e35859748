"""Show ciphertexts at low resolution without K2: every cube keeps its values, so its mean is a pixel of a thumbnail.

Needs K1 from another attack. If the channels of K2 are known, the thumbnail has colour.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import plant_footage
from lcve_deploy.geometry import ClipGeometry

__all__ = ["plant_thumbnail", "show_thumbnail", "thumbnail"]

Floats = npt.NDArray[np.float64]


def show_thumbnail(holdings: Holdings) -> Estimate:
    """Return the first clip as a thumbnail, with K1 and K2 as far as earlier attacks have found them."""
    if holdings.ciphertexts is None:
        return Estimate()
    found = holdings.found or Estimate()
    return Estimate(clip=thumbnail(holdings.ciphertexts[0], holdings.geometry, found.cubes, found.values))


def thumbnail(
    ciphertext: Cubes, geometry: ClipGeometry, cubes: Order | None = None, values: Order | None = None
) -> Floats:
    """Fill every cube with its mean colour, or with grey if its channels are unknown.

    Args:
        ciphertext: encrypted clip, uint8 ``[N, L]``.
        geometry: geometry of the clip.
        cubes: K1 as far as known; None leaves the encrypted order, -1 fills a cube with the mean of the clip.
        values: K2 as far as known; only the channels of its entries are used.

    Returns:
        The clip in cubes, float 0..255, ``[N, L]``.
    """
    colours = _mean_colours(ciphertext, geometry.channels, values)
    shown = np.broadcast_to(colours.mean(axis=0), colours.shape).copy()
    order = np.arange(len(colours)) if cubes is None else cubes
    shown[order[order >= 0]] = colours[order >= 0]
    return np.tile(shown, geometry.values // geometry.channels)


def plant_thumbnail(rng: np.random.Generator) -> Planted:
    """Return one clip of real footage, and K1."""
    planted = plant_footage(CONTROL_GEOMETRY, 1, rng)
    found = Estimate(cubes=planted.truth.cubes)
    return Planted(holdings=dataclasses.replace(planted.holdings, artifact={}, found=found), truth=planted.truth)


def _mean_colours(ciphertext: Cubes, channels: int, values: Order | None) -> Floats:
    """Return the mean of every channel in every cube, ``[N, C]``; that of all values if a channel is unknown."""
    grey: Floats = ciphertext.mean(axis=1)
    colours = np.repeat(grey[:, None], channels, axis=1)
    known = np.full(ciphertext.shape[1], -1) if values is None else values
    for channel in range(channels):
        members = np.flatnonzero((known >= 0) & (known % channels == channel))
        if len(members):
            colours[:, channel] = ciphertext[:, members].mean(axis=1)
    return colours
