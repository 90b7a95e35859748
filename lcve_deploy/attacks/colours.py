"""Find the channel of each encrypted value of a cube, from ciphertexts alone.

Two cues are used. With strong colours, the values of a channel have the same level in the whole cube. With strong
luminance, the difference between a value and its nearest neighbours (of all channels, at and around its pixel) is
colour, which varies slowly over the cube.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign, normalise_rows

__all__ = ["channel_splits"]

Rows = npt.NDArray[Any]

_WHITENING_POWER: Final = 0.5
_COLOURS: Final = (2, 4)
_NEIGHBOURS: Final = 6
_ATTEMPTS: Final = 6
_SEED: Final = 0


def channel_splits(levels: Rows, waves: Rows, channels: int) -> Iterator[Order]:
    """Yield an estimate from each cue: the channel of each value, int64 ``[L]``.

    Args:
        levels: mean levels of each value, ``[L, features]``.
        waves: principal components of each value over all cubes, ``[L, components]``, in ascending order of variance.
        channels: number of channels.
    """
    if channels == 1:
        yield np.zeros(len(waves), dtype=np.int64)
        return
    yield _balanced(levels, channels)
    yield _balanced(waves[:, -_COLOURS[0] * channels :], channels)
    yield _balanced(_colours(waves), channels)


def _colours(waves: Rows) -> Rows:
    """Return the strongest components of the difference between every value and its nearest neighbours."""
    length = np.sqrt((waves**2).sum(axis=0))
    sharp = normalise_rows(waves / np.maximum(length, 1e-9) ** _WHITENING_POWER)
    nearest = np.argsort(-(sharp @ sharp.T), axis=1)[:, :_NEIGHBOURS]
    apart = waves - waves[nearest].mean(axis=1)
    _, vectors = np.linalg.eigh(apart.T @ apart)
    colours: Rows = apart @ vectors[:, -_COLOURS[1] :]
    return colours


def _balanced(rows: Rows, count: int) -> Order:
    """Return clusters of equal size: the best of several k-means, balanced by assignment.

    If there are fewer different rows than clusters, no split is better than another.
    """
    from scipy.cluster.vq import kmeans2

    size = len(rows) // count
    if len(np.unique(rows, axis=0)) < count:
        return np.repeat(np.arange(count), size)
    best, rng = (np.inf, np.zeros(len(rows), dtype=np.int64)), np.random.default_rng(_SEED)
    for _ in range(_ATTEMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of empty clusters, which the assignment fills
            centres, _ = kmeans2(rows + 0.0, count, minit="++", rng=rng)
        squares = ((rows[:, None] - centres) ** 2).sum(axis=-1)
        cluster = assign(-np.repeat(squares, size, axis=1)) // size
        loss = float(np.take_along_axis(squares, cluster[:, None], axis=1).sum())
        best = min(best, (loss, cluster), key=lambda tried: tried[0])
    return best[1]
