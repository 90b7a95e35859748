"""Recover K1, K2 and signs from plain clips and their encryption.

Signs do not change absolute values, so a coefficient is recognised by its sorted absolute values over all cubes, and a
cube by its absolute values in these coefficients. Then coefficients are matched cube by cube, and the signs read off.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.frequencies import quantised
from lcve_deploy.attacks.coefficients.planted import PLANTED_STEP, busy_film, encrypted, random_truth_with_signs
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.solvers.assignment import assign
from lcve_deploy.clips import Scheme

__all__ = [
    "match_known_coefficients",
    "plant_known_coefficients",
    "same_coefficients",
]

Floats = npt.NDArray[Any]

_ROUNDS: Final = 2
_MAX_DIFFERING: Final = 0.01
"""Share of counts that may differ: a client may round a coefficient differently that is between two integers."""


def match_known_coefficients(holdings: Holdings) -> Estimate:
    """Match the coefficients and cubes of the known clips.

    Those that are equal in all known clips cannot be distinguished; they are assigned arbitrarily.
    """
    if holdings.known is None:
        return Estimate()
    plain, cipher = (np.asarray(clips, dtype=np.float64) for clips in holdings.known)
    values = _nearest(*(_columns(np.sort(np.abs(clips), axis=1)) for clips in (cipher, plain)))
    for _ in range(_ROUNDS):
        cubes = _nearest(_rows(np.abs(cipher)), _rows(np.abs(plain.take(values, axis=2))))
        values = _nearest(_columns(np.abs(cipher)), _columns(np.abs(plain.take(cubes, axis=1))))
    products = (cipher * plain.take(cubes, axis=1).take(values, axis=2)).sum(axis=(0, 1))
    return Estimate(cubes=cubes, values=values, signs=np.sign(products).astype(np.int64))


def same_coefficients(plain: Cubes, cipher: Cubes) -> bool:
    """Return whether ``cipher`` may be the encryption of ``plain``, both ``[N, L]`` coefficients of one step."""
    counts = [[np.sort((clip != 0).sum(axis=axis)) for axis in (0, 1)] for clip in (plain, cipher)]
    differing = sum(int(np.abs(a - b).sum()) for a, b in zip(*counts, strict=True))
    return differing <= _MAX_DIFFERING * sum(int(each.sum()) for each in counts[0])


def plant_known_coefficients(rng: np.random.Generator) -> Planted:
    """Return one clip of a real film with noise, and its encryption."""
    truth, clips, geometry = random_truth_with_signs(rng), busy_film(rng), CONTROL_GEOMETRY
    known = quantised(clips, geometry, PLANTED_STEP), encrypted(clips, truth, geometry, PLANTED_STEP)
    holdings = Holdings(geometry=geometry, scheme=Scheme.DCT, known=known)
    return Planted(holdings=holdings, truth=Estimate(**{**vars(truth), "clip": clips[0]}))


def _rows(clips: Floats) -> Floats:
    """Return what every cube has in all clips, ``[N, clips · L]``."""
    return np.ascontiguousarray(clips.transpose(1, 0, 2)).reshape(clips.shape[1], -1)


def _columns(clips: Floats) -> Floats:
    """Return what every coefficient is in all clips, ``[L, clips · N]``."""
    return np.ascontiguousarray(clips.transpose(2, 0, 1)).reshape(clips.shape[2], -1)


def _nearest(rows: Floats, known: Floats) -> Order:
    """Return the known row of each row in the assignment with the smallest total squared distance."""
    return assign(2 * rows @ known.T - (rows**2).sum(axis=1)[:, None] - (known**2).sum(axis=1))
