"""Planted cases of ``lcve-dct-1``: random orders with signs, and clips under them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.frequencies import quantised, to_frequencies
from lcve_deploy.attacks.holdings import Cubes, Estimate, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, film, random_truth, scrambled
from lcve_deploy.geometry import ClipGeometry

__all__ = ["PLANTED_STEP", "busy_film", "encrypted", "random_truth_with_signs", "scrambled_embedding"]

PLANTED_STEP: Final = 4.0
_NOISE: Final = 12


def random_truth_with_signs(rng: np.random.Generator, geometry: ClipGeometry = CONTROL_GEOMETRY) -> Estimate:
    """Return random orders and signs."""
    truth = random_truth(rng, geometry)
    return Estimate(**{**vars(truth), "signs": rng.choice((-1, 1), geometry.values)})


def encrypted(cubes: Cubes, truth: Estimate, geometry: ClipGeometry, step: float) -> npt.NDArray[np.float32]:
    """Encrypt plain clips in cubes ``[clips, N, L]`` with the orders and signs of ``truth``."""
    return reordered(quantised(cubes, geometry, step), truth)


def reordered(coefficients: npt.NDArray[np.float32], truth: Estimate) -> npt.NDArray[np.float32]:
    """Return plain coefficients ``[clips, N, L]`` in the orders and with the signs of ``truth``."""
    moved = coefficients.take(truth.order("cubes"), axis=-2).take(truth.order("values"), axis=-1)
    signed: npt.NDArray[np.float32] = moved * truth.order("signs").astype(np.float32)
    return signed


def scrambled_embedding(plain: Tensors, truth: Estimate, geometry: ClipGeometry) -> dict[str, npt.NDArray[Any]]:
    """Reorder plain tensors as an export for this scheme does: the embedding takes coefficients."""
    name = "cube_embedding.weight"
    tensors = scrambled({**plain, name: to_frequencies(plain[name].T, geometry).T}, truth)
    return {**tensors, name: tensors[name] * truth.order("signs")[:, None]}


def busy_film(rng: np.random.Generator) -> Cubes:
    """Return a clip of a real film with noise, so that no coefficient is always zero; uint8 ``[1, N, L]``."""
    plain = film()[:1].astype(np.int64)
    noisy: Cubes = np.clip(plain + rng.integers(-_NOISE, _NOISE + 1, plain.shape), 0, 255).astype(np.uint8)
    return noisy
