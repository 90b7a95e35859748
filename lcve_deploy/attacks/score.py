"""Score how much of an order an attack recovered, compared with chance.

Smoothness alone determines an order only up to the symmetries of the grid, such as mirror images. These estimates are
scored under the best symmetry. An attacker has to compare all of them by eye: for VideoMAE, 16 of the grid times 96 of
the cube.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Order

__all__ = ["Recovery", "Space", "align_order", "chance_level", "guess_probability", "score_order"]

Coordinates = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Space:
    """The space in which the entries of an order are positions.

    Args:
        grid: sizes of the axes along which entries have neighbours.
        channels: entries at each position of the grid; the last axis.
        symmetric: whether estimates count up to flips, exchanges of axes of equal size, and the order of channels.
        flips: whether a flip moves entries; it does not move frequencies.
    """

    grid: tuple[int, ...]
    channels: int = 1
    symmetric: bool = False
    flips: bool = True

    @property
    def size(self) -> int:
        """Number of entries of an order."""
        return math.prod(self.grid) * self.channels

    @property
    def symmetry_count(self) -> int:
        """Number of symmetries; 1 if none is allowed."""
        return sum(1 for _ in self.symmetries())

    def coordinates(self, order: Order) -> Coordinates:
        """Return the coordinates of every entry, ``[entries, axes + 1]``; unknown entries are far outside."""
        places = np.stack(np.unravel_index(np.maximum(order, 0), (*self.grid, self.channels)), axis=1)
        return np.where(order[:, None] < 0, -self.size - 9, places).astype(np.int64)

    def symmetries(self) -> Iterator[_Symmetry]:
        """Yield all symmetries, the identity first."""
        axes = range(len(self.grid))
        if not self.symmetric:
            yield _Symmetry(tuple(axes), (False,) * len(self.grid), tuple(range(self.channels)))
            return
        exchanges = [p for p in itertools.permutations(axes) if all(self.grid[p[a]] == self.grid[a] for a in axes)]
        flips = itertools.product(*((False, True) if size > 1 and self.flips else (False,) for size in self.grid))
        yield from itertools.starmap(
            _Symmetry, itertools.product(exchanges, list(flips), itertools.permutations(range(self.channels)))
        )


@dataclass(frozen=True)
class _Symmetry:
    axes: tuple[int, ...]
    flipped: tuple[bool, ...]
    channels: tuple[int, ...]

    def applied(self, places: Coordinates, grid: Sequence[int]) -> Coordinates:
        moved = places.copy()
        moved[:, :-1] = places[:, list(self.axes)]
        for axis, flipped in enumerate(self.flipped):
            if flipped:
                moved[:, axis] = grid[axis] - 1 - moved[:, axis]
        moved[:, -1] = np.array(self.channels)[places[:, -1].clip(0)]
        return moved


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """How much of an order was recovered, as shares 0..1.

    Args:
        exact: share of entries that are correct.
        near: share of entries that are at most one step off along every axis of the grid.
        neighbours: share of neighbouring pairs in the estimate that are truly neighbours.
        energy: share of the energy of a clip, without that of its mean colours, in correct coefficients; None if
            entries are not coefficients.
        strongest: share of the strongest coefficients of a clip that are correct; None as before.
    """

    exact: float
    near: float
    neighbours: float
    energy: float | None = None
    strongest: float | None = None

    @property
    def share(self) -> float:
        """What an attacker gains: the share of the energy, or else of the entries."""
        return self.exact if self.energy is None else self.energy

    def to_json(self) -> dict[str, float]:
        """Return the shares as plain values."""
        weighted = {} if self.energy is None else {"energy": self.energy, "strongest": self.strongest or 0.0}
        return {"exact": self.exact, "near": self.near, "neighbours": self.neighbours, **weighted}


def score_order(estimate: Order, truth: Order, space: Space) -> Recovery:
    """Compare an estimate with the truth, under the best symmetry of the space.

    Args:
        estimate: int64 ``[entries]``; -1 if unknown.
        truth: a permutation, int64 ``[entries]``.
        space: space of the entries.
    """
    found, true = space.coordinates(estimate), space.coordinates(truth)
    exact, near = max(_agreement(s.applied(found, space.grid), true) for s in space.symmetries())
    return Recovery(exact=exact, near=near, neighbours=_neighbours(estimate, truth, space))


def align_order(estimate: Order, truth: Order, space: Space) -> Order:
    """Return the estimate under its best symmetry, so that its picture is upright."""
    found, true = space.coordinates(estimate), space.coordinates(truth)
    best = max((s.applied(found, space.grid) for s in space.symmetries()), key=lambda places: _agreement(places, true))
    aligned = np.ravel_multi_index(tuple(best.T.clip(0)), (*space.grid, space.channels))
    return np.where(estimate < 0, -1, aligned).astype(np.int64)


def chance_level(measure: str, space: Space) -> float:
    """Return the largest mean score over independent keys that counts as chance: three times that of random orders.

    Args:
        measure: ``exact`` or ``neighbours``.
        space: space of the order.
    """
    if measure == "neighbours":
        cells = math.prod(space.grid)
        pairs = sum(cells // size * (size - 1) for size in space.grid)
        return 3 * 2 * pairs / (cells * max(cells - 1, 1))
    return 3 * (1 + math.log2(space.symmetry_count)) / space.size


def guess_probability(space: Space, correct: int) -> float:
    """Return the maximum probability that a guess has so many correct entries under the best symmetry.

    Of the sets of k entries, a random order agrees with an estimate in 1/k! on average.
    """
    logarithm = math.log(space.symmetry_count) - math.lgamma(correct + 1)
    return math.exp(min(logarithm, 0.0))


def _agreement(found: Coordinates, true: Coordinates) -> tuple[float, float]:
    apart = np.abs(found - true)
    return float((apart.max(axis=1) == 0).mean()), float((apart[:, :-1].max(axis=1) <= 1).mean())


def _neighbours(estimate: Order, truth: Order, space: Space) -> float:
    """Return the share of neighbouring pairs in the estimate that are truly neighbours; channels do not count."""
    shape = (*space.grid, space.channels)
    held: npt.NDArray[Any] = np.full(space.size, -1)
    known = np.flatnonzero(estimate >= 0)
    held[estimate[known]] = known
    places = np.where(held.reshape(-1, 1) < 0, -space.size - 9, space.coordinates(truth)[held][:, :-1])
    places = places.reshape(*shape, len(space.grid))
    right = [np.abs(np.diff(places, axis=axis)).sum(axis=-1).ravel() == 1 for axis in range(len(space.grid))]
    joined = np.concatenate(right)
    return float(joined.mean()) if len(joined) else 0.0
