"""K1 from ciphertexts and K2: the cubes are the pieces of a puzzle in space and time.

Greedy growth from several seeds, then repair, then growth anew from the largest part that holds together.

Source: puzzles with square pieces (Cho and others, CVPR 2010; Pomeranz and others, CVPR 2011).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lcve_deploy.attacks.faces import face_likeness
from lcve_deploy.attacks.footage import plant_footage
from lcve_deploy.attacks.growing import grow_layout
from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.layout import placed
from lcve_deploy.attacks.repairing import neighbour_fit, repair_layout
from lcve_deploy.attacks.value_order import lay_out_texture
from lcve_deploy.geometry import ClipGeometry

__all__ = ["plant_jigsaw", "solve_jigsaw"]

_SEEDS: Final = 3
_MOST_CLIPS: Final = 64


def solve_jigsaw(holdings: Holdings, known: Estimate | None = None) -> Estimate:
    """Put the cubes together.

    Args:
        holdings: with ciphertexts.
        known: K2, if known from elsewhere; else it is estimated from the ciphertexts.
    """
    if holdings.ciphertexts is None:
        return Estimate()
    geometry = holdings.geometry
    values = known.values if known is not None else None
    if values is None:
        values = lay_out_texture(holdings).values
    if values is None:
        return Estimate()
    plain = holdings.ciphertexts[:_MOST_CLIPS].take(placed(values), axis=2)
    likeness = face_likeness(plain, geometry)
    best = max(_layouts(likeness, geometry.grid), key=lambda layout: neighbour_fit(likeness, layout, geometry.grid))
    return Estimate(cubes=placed(best), values=values)


def plant_jigsaw(rng: np.random.Generator) -> Planted:
    """A few clips of real footage."""
    return plant_footage(ClipGeometry(frames=8, height=64, width=64, cube=(2, 8, 8)), 8, rng)


def _layouts(likeness, grid):
    for seed in np.argsort(-likeness.max(axis=2).sum(axis=0))[:_SEEDS]:
        layout = grow_layout(likeness, grid, seed=int(seed), corner=0)
        yield layout
        yield repair_layout(likeness, layout, grid)
