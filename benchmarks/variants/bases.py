"""Attacks on a rewritten model: the secret basis, from a reference or from another artifact of the same model.

Products of matrices in which the secrets inside of heads and MLPs cancel are what they were, seen in the secret basis:
``B' = R.T @ B @ R``. Each says something about the rotation R; all layers together fix it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.variants.basis import Block
from lcve_deploy.attacks.solvers.assignment import match_rows

Array = npt.NDArray[np.float64]

_ROUNDS = 300
_ENOUGH = 1e-9


def invariants(blocks: Sequence[Block]) -> Array:
    """Return products ``[products, D, D]`` that do not depend on the secrets inside of heads and MLPs."""
    products = [
        product
        for block in blocks
        for product in (block.query @ block.key.T, block.value @ block.output, block.first @ block.second)
    ]
    return np.stack([product / np.linalg.norm(product) for product in products])


def find_basis(plain: Sequence[Block], secret: Sequence[Block]) -> Array:
    """Find the basis of a rewritten model, from one in a known basis that it may come from.

    First from the invariant products; then hidden units can be matched, and their rows say it better.

    Returns:
        Rotation ``[D, D]``.
    """
    rotation = _find_rotation(invariants(plain), invariants(secret))
    pull = np.zeros_like(rotation)
    for block, seen in zip(plain, secret, strict=True):
        units = np.hstack([block.first.T @ rotation, block.second @ rotation])
        order = match_rows(np.hstack([seen.first.T, seen.second]), units)
        pull += block.first[:, order] @ seen.first.T / np.linalg.norm(block.first) ** 2
        pull += block.second[order].T @ seen.second / np.linalg.norm(block.second) ** 2
    return _nearest_rotation(pull)


def agreement(found: Array, true: Array) -> float:
    """Mean cosine of the angles between the axes of two bases ``[D, D]``; 1 if they are the same."""
    return float((found * true).sum() / len(true))


def _find_rotation(plain: Array, secret: Array) -> Array:
    """Find R so that ``secret = R.T @ plain @ R``, as far as the two are of one model.

    Starts from the eigenvectors of a sum of the products, whose signs come from another sum, then improves by turns:
    the best rotation for one side, while the other is held.

    Args:
        plain: of a model in a known basis, ``[products, D, D]``.
        secret: the same of the rewritten one.
    """
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((2, len(plain)))
    mixed = [np.tensordot(row, products, axes=1) for row in weights for products in (plain, secret)]
    (_, at), (_, seen) = (np.linalg.eigh(mix + mix.T) for mix in mixed[:2])
    here, there = at.T @ (mixed[2] + mixed[2].T) @ at, seen.T @ (mixed[3] + mixed[3].T) @ seen
    rotation = at * _signs(here * there) @ seen.T
    for _ in range(_ROUNDS):
        pull = np.einsum("kij,jl,kml->im", plain, rotation, secret, optimize=True)
        pull += np.einsum("kji,jl,klm->im", plain, rotation, secret, optimize=True)
        better = _nearest_rotation(pull)
        if np.abs(better - rotation).max() < _ENOUGH:
            break
        rotation = better
    kept: Array = rotation if rotation.sum() > 0 else -rotation  # the vector of ones is kept
    return kept


def _signs(agreeing: Array) -> Array:
    """Signs ``[D]`` under which a matrix of products of signs fits best: those of its first eigenvector."""
    return np.where(np.linalg.eigh(agreeing)[1][:, -1] < 0, -1.0, 1.0)


def _nearest_rotation(matrix: Array) -> Array:
    left, _, right = np.linalg.svd(matrix)
    rotation: Array = left @ right
    return rotation
