"""Two steps on the way to the strongest variant, each with the attack that undoes it.

A secret rotation of the values of every cube instead of their order: the embedding absorbs it. And noise that the
embedding does not see, fresh for every clip: it lies in the kernel of the embedding, so the server never notices it.
Both make floats of bytes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign

Array = npt.NDArray[np.float64]


def rotate_values(cubes: Array, rotation: Array, order: Order) -> Array:
    """Return cubes ``[N, L]`` with rotated values, in a secret order."""
    rotated: Array = (cubes @ rotation)[order]
    return rotated


def undo_rotation(known: Array, seen: Array) -> tuple[Array, Order]:
    """Find rotation and order from one known clip: a rotation keeps the length of a cube.

    Args:
        known: plain cubes ``[N, L]``.
        seen: the same, encrypted.

    Returns:
        Rotation ``[L, L]``, and the plain cube of each encrypted one.
    """
    lengths = [np.linalg.norm(cubes, axis=1) for cubes in (seen, known)]
    order = assign(-np.abs(np.subtract.outer(*lengths)))
    left, _, right = np.linalg.svd(known[order].T @ seen)
    return left @ right, order


def hide_in_kernel(cubes: Array, embedding: Array, deviation: float, rng: np.random.Generator) -> Array:
    """Add noise ``[N, L]`` that the embedding ``[L, D]`` maps to zero."""
    kernel = np.linalg.svd(embedding)[0][:, embedding.shape[1] :]
    noisy: Array = cubes + deviation * rng.standard_normal((len(cubes), kernel.shape[1])) @ kernel.T
    return noisy


def remove_noise(seen: Array, width: int) -> Array:
    """Remove the noise from one clip without the artifact: its principal components are alike in strength.

    Args:
        seen: noisy cubes ``[N, L]``.
        width: D, of the embedding; L - D components are noise.

    Returns:
        Cubes without these components, ``[N, L]``.
    """
    mean, count = seen.mean(axis=0), seen.shape[1] - width
    _, strengths, axes = np.linalg.svd(seen - mean, full_matrices=False)
    spread = [strengths[first] / strengths[first + count - 1] for first in range(len(strengths) - count)]
    noise = axes[(first := int(np.argmin(spread))) : first + count]
    cleaned: Array = seen - (seen - mean) @ noise.T @ noise
    return cleaned
