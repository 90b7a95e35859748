"""Recover K1, K2 and signs by having chosen clips encrypted."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.frequencies import to_frequencies
from lcve_deploy.attacks.coefficients.planted import PLANTED_STEP, encrypted, random_truth_with_signs
from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.clips import Scheme

__all__ = ["ask_chosen_coefficients", "plant_chosen_coefficients"]

Floats = npt.NDArray[Any]

_MIDDLE: Final = 128
_BRIGHT: Final = 255
_DARK: Final = 1
_LEVELS: Final = 8
"""Levels of grey that survive quantisation, even in small cubes."""


def ask_chosen_coefficients(holdings: Holdings) -> Estimate:
    """Have clips encrypted that number the cubes by levels of grey, and have one coefficient in each cube."""
    geometry, oracle = holdings.geometry, holdings.oracle
    if oracle is None:
        return Estimate()
    greys, waves = _greys(geometry.cubes), _waves(holdings)
    shape = geometry.cubes, geometry.values
    levels = np.stack([np.broadcast_to(grey[:, None], shape) for grey in greys])
    answers = oracle(np.concatenate([levels, waves]).astype(np.uint8))
    cubes = _numbers(answers[: len(greys)])
    loudest = np.abs(answers[len(greys) :]).argmax(axis=2)
    values, signs = np.full(geometry.values, -1), np.zeros(geometry.values, dtype=np.int64)
    for clip, coefficients in enumerate(loudest):
        frequencies = clip * geometry.cubes + cubes
        asked = np.flatnonzero(frequencies < geometry.values)
        values[coefficients[asked]] = frequencies[asked]
        signs[coefficients[asked]] = np.sign(answers[len(greys) + clip, asked, coefficients[asked]])
    return Estimate(cubes=cubes, values=values, signs=signs)


def plant_chosen_coefficients(rng: np.random.Generator) -> Planted:
    """Return an oracle with random orders and signs."""
    truth, geometry = random_truth_with_signs(rng), CONTROL_GEOMETRY
    holdings = Holdings(
        geometry=geometry, scheme=Scheme.DCT, oracle=lambda cubes: encrypted(cubes, truth, geometry, PLANTED_STEP)
    )
    return Planted(holdings=holdings, truth=truth)


def _greys(cubes: int) -> list[npt.NDArray[np.int64]]:
    """Return levels of grey for each cube: bright in all, and then the digits of its number."""
    numbers, greys = np.arange(cubes), [np.full(cubes, _BRIGHT)]
    while numbers.any():
        greys.append(_BRIGHT - numbers % _LEVELS * (_BRIGHT - _DARK) // (_LEVELS - 1))
        numbers = numbers // _LEVELS
    return greys


def _numbers(answers: Floats) -> Order:
    """Return the number of each cube from its greys: all have the same coefficients, relative to the bright ones."""
    column = int(np.abs(answers[0]).sum(axis=0).argmax())
    bright, *digits = answers[:, :, column]
    middle = (_BRIGHT + _DARK) / 2
    grey = [middle + (_BRIGHT - middle) * digit / bright for digit in digits]
    places = [np.round((_BRIGHT - each) * (_LEVELS - 1) / (_BRIGHT - _DARK)).astype(np.int64) for each in grey]
    return sum((place * _LEVELS**power for power, place in enumerate(places)), np.zeros(answers.shape[1], np.int64))


def _waves(holdings: Holdings) -> Floats:
    """Return clips in which every cube has one coefficient, as large as fits; ``[clips, N, L]``, 0..255."""
    geometry = holdings.geometry
    bases = to_frequencies(np.eye(geometry.values), geometry).T
    waves = _MIDDLE + (_BRIGHT - _MIDDLE) * bases / np.abs(bases).max(axis=1, keepdims=True)
    clips = -(-geometry.values // geometry.cubes)
    padded = np.full((clips * geometry.cubes, geometry.values), _MIDDLE, dtype=np.float64)
    padded[: geometry.values] = waves
    return np.round(padded).reshape(clips, geometry.cubes, geometry.values)
