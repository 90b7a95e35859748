"""Which encrypted values of a cube are of one channel, from ciphertexts alone.

Two signs are tried. Where colours are strong, the values of one channel have the same level all over a cube.
Where light is strong, what a value differs by from those that resemble it most (of all channels, at and around
its pixel) is its colour, and colours change slowly from pixel to pixel.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign, unit_rows

__all__ = ["channel_splits"]

Rows = npt.NDArray[Any]

_SHARP: Final = 0.5
_COLOURS: Final = (2, 4)
_AROUND: Final = 6
_TRIES: Final = 6
_SEED: Final = 0


def channel_splits(levels: Rows, waves: Rows, channels: int) -> Iterator[Order]:
    """Channel of each value, int64 ``[L]``, as each sign has it.

    Args:
        levels: mean of each value over all cubes and clips, and whatever else says its level, ``[L, features]``.
        waves: of each value in all cubes, principal components ``[L, components]``, the smallest first.
        channels: of a clip.
    """
    if channels == 1:
        yield np.zeros(len(waves), dtype=np.int64)
        return
    yield _balanced(levels, channels)
    yield _balanced(waves[:, -_COLOURS[0] * channels :], channels)
    yield _balanced(_colours(waves), channels)


def _colours(waves: Rows) -> Rows:
    """What every value differs by from those that resemble it most; its strongest components."""
    length = np.sqrt((waves**2).sum(axis=0))
    sharp = unit_rows(waves / np.maximum(length, 1e-9) ** _SHARP)
    nearest = np.argsort(-(sharp @ sharp.T), axis=1)[:, :_AROUND]
    apart = waves - waves[nearest].mean(axis=1)
    _, vectors = np.linalg.eigh(apart.T @ apart)
    colours: Rows = apart @ vectors[:, -_COLOURS[1] :]
    return colours


def _balanced(rows: Rows, count: int) -> Order:
    """Clusters of equal size: the best of several k-means, evened out."""
    from scipy.cluster.vq import kmeans2

    size, best = len(rows) // count, (np.inf, np.zeros(len(rows), dtype=np.int64))
    rng = np.random.default_rng(_SEED)
    for _ in range(_TRIES):
        centres, _ = kmeans2(rows + 0.0, count, minit="++", rng=rng)
        squares = ((rows[:, None] - centres) ** 2).sum(axis=-1)
        cluster = assign(-np.repeat(squares, size, axis=1)) // size
        loss = float(np.take_along_axis(squares, cluster[:, None], axis=1).sum())
        best = min(best, (loss, cluster), key=lambda tried: tried[0])
    return best[1]
