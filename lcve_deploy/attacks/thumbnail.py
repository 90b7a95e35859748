"""What ciphertexts show without K2: every cube keeps its set of values, so its mean is a pixel of a small film.

In the order of K1, where it is known from elsewhere, the means are a film of low resolution. Where the channels of K2
are known, the film has colour.
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
    """The first clip as a thumbnail, in the order of K1 that has been found, and in the colours of K2 if there are."""
    if holdings.ciphertexts is None:
        return Estimate()
    found = holdings.found or Estimate()
    return Estimate(clip=thumbnail(holdings.ciphertexts[0], holdings.geometry, found.cubes, found.values))


def thumbnail(
    ciphertext: Cubes, geometry: ClipGeometry, cubes: Order | None = None, values: Order | None = None
) -> Floats:
    """Every cube filled with its mean colour, grey where its channels are not known.

    Args:
        ciphertext: one encrypted clip, ``[N, L]``.
        geometry: of the clip.
        cubes: K1 as far as known; the encrypted order where it is None, the clip's mean where it is -1.
        values: K2 as far as known; only the channels of its entries count.

    Returns:
        The clip in cubes, 0..255, ``[N, L]``.
    """
    colours = _mean_colours(ciphertext, geometry.channels, values)
    shown = np.broadcast_to(colours.mean(axis=0), colours.shape).copy()
    order = np.arange(len(colours)) if cubes is None else cubes
    shown[order[order >= 0]] = colours[order >= 0]
    return np.tile(shown, geometry.values // geometry.channels)


def plant_thumbnail(rng: np.random.Generator) -> Planted:
    """One clip of real footage, and K1."""
    planted = plant_footage(CONTROL_GEOMETRY, 1, rng)
    found = Estimate(cubes=planted.truth.cubes)
    return Planted(holdings=dataclasses.replace(planted.holdings, artifact={}, found=found), truth=planted.truth)


def _mean_colours(ciphertext: Cubes, channels: int, values: Order | None) -> Floats:
    """Mean of every channel in every cube, ``[N, C]``; of all values where a channel is not known."""
    grey: Floats = ciphertext.mean(axis=1)
    colours = np.repeat(grey[:, None], channels, axis=1)
    known = np.full(ciphertext.shape[1], -1) if values is None else values
    for channel in range(channels):
        members = np.flatnonzero((known >= 0) & (known % channels == channel))
        if len(members):
            colours[:, channel] = ciphertext[:, members].mean(axis=1)
    return colours
