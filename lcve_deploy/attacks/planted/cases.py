"""Building blocks of planted cases: random orders, smooth fields, weights, and clips of a small geometry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate, Tensors
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.shapes import ROTARY_COS, ROTARY_SIN
from lcve_deploy.samples import real_clips

__all__ = ["CONTROL_GEOMETRY", "encrypted", "film", "random_truth", "random_weights", "scrambled", "smooth_field"]

CONTROL_GEOMETRY: Final = ClipGeometry(frames=8, height=64, width=64, cube=(2, 8, 8))
"""Geometry of planted cases: 256 cubes of 384 values."""

_WIDTH: Final = 96
_CLASSES: Final = 40

Generator = np.random.Generator


def random_truth(rng: Generator, geometry: ClipGeometry = CONTROL_GEOMETRY, classes: int = _CLASSES) -> Estimate:
    """Return random orders."""
    cubes, values, labels = (rng.permutation(size) for size in (geometry.cubes, geometry.values, classes))
    return Estimate(cubes=cubes, values=values, labels=labels)


def random_weights(rng: Generator, geometry: ClipGeometry = CONTROL_GEOMETRY) -> dict[str, npt.NDArray[Any]]:
    """Return random plain tensors, with the names of keyed tensors."""
    shapes = {
        "cube_embedding.weight": (geometry.values, _WIDTH),
        "positional_encoding": (geometry.cubes, _WIDTH),
        "head.weight": (_WIDTH, _CLASSES),
        "head.bias": (_CLASSES,),
    }
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def scrambled(plain: Tensors, truth: Estimate) -> dict[str, npt.NDArray[Any]]:
    """Reorder plain tensors by the orders of ``truth``, as an export does."""
    moves = {
        "cube_embedding.weight": ("values", 0),
        "positional_encoding": ("cubes", 0),
        ROTARY_COS: ("cubes", 0),
        ROTARY_SIN: ("cubes", 0),
        "head.weight": ("labels", 1),
        "head.bias": ("labels", 0),
    }
    return {name: tensor.take(truth.order(moves[name][0]), axis=moves[name][1]) for name, tensor in plain.items()}


def smooth_field(
    rng: Generator, grid: Sequence[int], lengths: Sequence[float], features: int, noise: float
) -> npt.NDArray[np.float64]:
    """Return a Gaussian random field whose rows are correlated over some cells, ``[cells, features]``.

    Args:
        rng: random generator.
        grid: number of cells along every axis.
        lengths: correlation length along every axis, in cells.
        features: number of features of a row.
        noise: standard deviation of independent noise; that of the field is 1.
    """
    field = rng.standard_normal((*grid, features))
    for axis, (size, length) in enumerate(zip(grid, lengths, strict=True)):
        apart = np.subtract.outer(np.arange(size), np.arange(size)) / length
        root = np.linalg.cholesky(np.exp(-(apart**2) / 2) + 1e-6 * np.eye(size))
        field = np.moveaxis(np.tensordot(root, np.moveaxis(field, axis, 0), axes=1), 0, axis)
    return field.reshape(-1, features) + noise * rng.standard_normal((field[..., 0].size, features))


def film(geometry: ClipGeometry = CONTROL_GEOMETRY) -> Cubes:
    """Return the built-in clips of a real film in cubes, uint8 ``[2, N, L]``."""
    cubes: Cubes = geometry.to_cubes(real_clips(geometry), np)
    return cubes


def encrypted(cubes: Cubes, truth: Estimate) -> Cubes:
    """Encrypt clips in cubes ``[clips, N, L]`` with the orders of ``truth``."""
    shuffled: Cubes = cubes.take(truth.order("cubes"), axis=-2).take(truth.order("values"), axis=-1)
    return shuffled
