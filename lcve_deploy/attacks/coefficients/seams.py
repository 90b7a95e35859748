"""Recover K2 and signs from encrypted clips and K1: the picture is continuous across the borders of cubes.

K1 comes from an earlier attack, such as one on the positions of the artifact. The strongest column is the mean light of
cubes. The others are found by what continuity predicts from those that are known.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import numpy as np

from lcve_deploy.attacks.coefficients.evidence import Evidence
from lcve_deploy.attacks.coefficients.placing import place_columns
from lcve_deploy.attacks.coefficients.planted import PLANTED_STEP, encrypted, random_truth_with_signs
from lcve_deploy.attacks.holdings import Cubes, Estimate, Holdings, Order, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, film, smooth_field
from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry

__all__ = ["first_encrypted", "place_by_seams", "plant_mosaic", "plant_seams", "show_mosaic"]

_MIDDLE: Final = 128
_MAX_VALUE: Final = 255
_MAX_CLIPS: Final = 4
_COUNT: Final = 60
"""Number of strongest columns to place."""
_CLOUDS: Final = (1.0, 2.0, 4.0, 8.0)
"""Lengths in pixels, and in frames."""
_CONTRAST: Final = 25
_PLANTED_GEOMETRY: Final = ClipGeometry(frames=8, height=64, width=64, channels=1, cube=(2, 4, 4))


def place_by_seams(holdings: Holdings) -> Estimate:
    """Find the frequencies and signs of the strongest columns; nothing without K1, or with a single cube."""
    clips, cubes = holdings.ciphertexts, _whole(holdings)
    if clips is None or cubes is None or len(cubes) == 1 or not clips.any():
        return Estimate()
    geometry = holdings.geometry
    evidence = Evidence.of(clips[:_MAX_CLIPS, np.argsort(cubes)], geometry, 2 * _COUNT)
    placed = place_columns(evidence, _COUNT)
    values, signs = np.full(geometry.values, -1), np.zeros(geometry.values, dtype=np.int64)
    light = brightness_sign(clips[0], int(evidence.columns[0]))
    for (component, frequency), (column, sign) in placed.items():
        along = evidence.continuity.places[frequency]
        plain = np.ravel_multi_index((*along, component), (*geometry.cube, geometry.channels))
        values[evidence.columns[column]] = plain
        signs[evidence.columns[column]] = sign * (light if component == 0 else 1)
    return Estimate(cubes=cubes, values=values, signs=signs)


def show_mosaic(holdings: Holdings) -> Estimate:
    """Fill every cube with its mean light, which is the strongest column, in the order found so far."""
    clips, cubes = holdings.ciphertexts, _whole(holdings)
    if clips is None or cubes is None:
        return Estimate()
    column = int((clips[0].astype(np.float64) ** 2).sum(axis=0).argmax())
    mean = clips[0][:, column] * brightness_sign(clips[0], column)
    light = np.clip(_MIDDLE + mean / np.sqrt(holdings.geometry.values), 0, _MAX_VALUE)
    shown = np.empty_like(light)
    shown[cubes] = light
    return Estimate(clip=np.repeat(shown[:, None], holdings.geometry.values, axis=1))


def brightness_sign(clip: Cubes, column: int) -> int:
    """Guess the sign of the mean light: bright cubes have more texture. An attacker can also look at both."""
    texture = np.log1p((np.delete(clip, column, axis=1).astype(np.float64) ** 2).sum(axis=1))
    products = (clip[:, column] - clip[:, column].mean()) @ (texture - texture.mean())
    return 1 if products >= 0 else -1


def first_encrypted(holdings: Holdings, count: float, rng: np.random.Generator) -> Holdings:
    """Return holdings with only the first ``count`` encrypted clips."""
    clips = holdings.ciphertexts
    return dataclasses.replace(holdings, ciphertexts=None if clips is None else clips[: int(count)])


def plant_seams(rng: np.random.Generator) -> Planted:
    """Return a random continuous clip in small cubes, and K1."""
    return _planted(rng, _PLANTED_GEOMETRY, _continuous_clip(rng, _PLANTED_GEOMETRY))


def plant_mosaic(rng: np.random.Generator) -> Planted:
    """Return a clip of a real film, and K1."""
    return _planted(rng, CONTROL_GEOMETRY, film()[:1])


def _planted(rng: np.random.Generator, geometry: ClipGeometry, clips: Cubes) -> Planted:
    truth = random_truth_with_signs(rng, geometry)
    holdings = Holdings(
        geometry=geometry,
        scheme=Scheme.DCT,
        artifact={},
        ciphertexts=encrypted(clips, truth, geometry, PLANTED_STEP),
        found=Estimate(cubes=truth.cubes),
    )
    return Planted(holdings=holdings, truth=Estimate(**{**vars(truth), "clip": clips[0]}))


def _continuous_clip(rng: np.random.Generator, geometry: ClipGeometry) -> Cubes:
    """Return a random clip of grey clouds of several sizes, uint8 ``[1, N, L]``."""
    size = geometry.frames, geometry.height, geometry.width
    clouds = sum(smooth_field(rng, size, (length, length, length), 1, 0.0) for length in _CLOUDS)
    pixels = np.clip(_MIDDLE + _CONTRAST * np.asarray(clouds), 0, _MAX_VALUE).astype(np.uint8)
    cubes: Cubes = geometry.to_cubes(pixels.reshape(1, *geometry.clip_shape), np)
    return cubes


def _whole(holdings: Holdings) -> Order | None:
    """Return K1 as found so far, if it is a permutation; else None."""
    cubes = holdings.found.cubes if holdings.found else None
    whole = cubes is not None and np.array_equal(np.sort(cubes), np.arange(holdings.geometry.cubes))
    return cubes if whole else None
