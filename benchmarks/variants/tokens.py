"""Attacks on tokens in a secret basis and in fresh orders: sort them, lay them out, look at them.

A token is the content of a cube plus its position. Over clips the position stays and the content changes, so tokens of
one position can be told from the others; their means over clips are the positions in the secret basis, which resemble
their neighbours. All else is one fixed linear map. It is learned from one known clip, or seen without any: the
components that change least from cube to cube are brightness and colours, as in every film.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

from lcve_deploy.attacks.holdings import Order
from lcve_deploy.attacks.solvers.assignment import assign
from lcve_deploy.attacks.solvers.layout import invert_layout, lay_out

Array = npt.NDArray[np.float64]

_FIRST_CLIPS, _FIRST_ROUNDS, _ROUNDS = 16, 8, 2
_RIDGE = 1e-3
_MAP_RIDGE = 1e-4
_COMPONENTS = 3
_TURNS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Sorted:
    """Tokens by position.

    Args:
        classes: number of the position of each token; the same over all clips, int64 ``[clips, N]``.
        tokens: in the order of these numbers, ``[clips, N, D]``.
        whitening: makes the content white, ``[D, D]``.
    """

    classes: Order
    tokens: Array
    whitening: Array

    @property
    def positions(self) -> Array:
        """Means over clips, with the content made white: ``[N, D]``."""
        means: Array = self.tokens.mean(axis=0) @ self.whitening
        return means


def sort_tokens(tokens: Array) -> Sorted:
    """Find which tokens of all clips have the same position.

    Starts from the tokens of the first clip, and assigns and averages in turn; the metric is that of what changes from
    clip to clip within a position.

    Args:
        tokens: ``[clips, N, D]``, every clip in an order of its own.
    """
    few = tokens[np.linspace(0, len(tokens) - 1, min(_FIRST_CLIPS, len(tokens))).astype(int)]
    centres, whitening = few[0], np.eye(tokens.shape[2])
    for _ in range(_FIRST_ROUNDS):
        centres, whitening = _averaged(_ordered(few, _nearest(few, centres, whitening)))
    for _ in range(_ROUNDS):
        classes = _nearest(tokens, centres, whitening)
        ordered = _ordered(tokens, classes)
        centres, whitening = _averaged(ordered)
    return Sorted(classes=classes, tokens=ordered, whitening=whitening)


def sorted_right(classes: Order, orders: Order) -> float:
    """Share of tokens that are sorted to the tokens of their position in the first clip.

    Args:
        classes: as found, ``[clips, N]``.
        orders: true position of each token, ``[clips, N]``.
    """
    position = np.empty_like(orders[0])
    position[classes[0]] = orders[0]
    return float((position[classes[1:]] == orders[1:]).mean())


def lay_out_tokens(found: Sorted, grid: tuple[int, ...]) -> Order:
    """Return the cell of each position if positions were learned, up to the symmetries of the grid; int64 ``[N]``."""
    return invert_layout(lay_out(found.positions, grid))


def match_table(found: Sorted, table: Array) -> Order:
    """Return the cell of each position if the positions are a public table ``[N, D]``; int64 ``[N]``.

    Rows of the sinusoid table lie on a curve, so they can be put in line; then table and means are rotated onto each
    other and matched, by turns.
    """
    means = found.tokens.mean(axis=0)
    rows, known = means - means.mean(axis=0), table - table.mean(axis=0)
    line = invert_layout(lay_out(rows, (len(rows),)))
    return min((_turned_onto(rows, known, order) for order in (line, len(rows) - 1 - line)), key=lambda end: end[0])[1]


def slow_components(changes: Array, grid: tuple[int, ...]) -> Array:
    """Find the three components that change least from cube to cube: brightness and colours, as in every film.

    Args:
        changes: what differs from the mean over clips, in the plain order of cubes, ``[clips, N, D]``.
        grid: of the cubes.

    Returns:
        The components, ``[clips, N, 3]``.
    """
    width = changes.shape[2]
    white = changes @ _whitening(_covariance(changes.reshape(-1, width)), ridge=_RIDGE)
    field = white.reshape(len(white), *grid, width)
    steps = [np.diff(field, axis=axis).reshape(-1, width) for axis in range(1, len(grid) + 1) if grid[axis - 1] > 1]
    slowest = eigh(_covariance(np.concatenate(steps)), _covariance(white.reshape(-1, width)))[1][:, :_COMPONENTS]
    seen: Array = white @ slowest
    return seen


def invert_tokens(tokens: Array, known: tuple[Array, Array]) -> Array:
    """Invert tokens ``[..., D]`` to values ``[..., L]`` by the linear map that a known clip shows, with a small ridge.

    Args:
        tokens: in any order.
        known: tokens ``[N, D]`` of the known clip and its values ``[N, L]``, in the same order.
    """
    rows, values = known
    mean, middle = rows.mean(axis=0), values.mean(axis=0)
    gram = (rows - mean).T @ (rows - mean)
    gram += _MAP_RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    inverted: Array = (tokens - mean) @ np.linalg.solve(gram, (rows - mean).T @ (values - middle)) + middle
    return inverted


def _turned_onto(rows: Array, table: Array, order: Order) -> tuple[float, Order]:
    """Rotate rows onto those of a table that they are matched with, and match them, by turns; misfit and order."""
    for _ in range(_TURNS):
        left, _, right = np.linalg.svd(rows.T @ table[order])
        turned = rows @ (left @ right)
        order = assign(turned @ table.T)
    return float(((turned - table[order]) ** 2).sum()), order


def _nearest(tokens: Array, centres: Array, whitening: Array) -> Order:
    """Assign the tokens of every clip to the centres, one to one, by least squared distance."""
    white = centres @ whitening
    gains = (2 * (clip @ whitening) @ white.T - (white**2).sum(axis=1) for clip in tokens)
    return np.stack([assign(gain) for gain in gains])


def _ordered(tokens: Array, classes: Order) -> Array:
    return np.take_along_axis(tokens, np.argsort(classes, axis=1)[..., None], axis=1)


def _averaged(ordered: Array) -> tuple[Array, Array]:
    """Return the means over clips ``[N, D]``, and what makes the rest white ``[D, D]``."""
    means = ordered.mean(axis=0)
    return means, _whitening(_covariance((ordered - means).reshape(-1, ordered.shape[2])), ridge=_RIDGE)


def _covariance(rows: Array) -> Array:
    covariance: Array = rows.T @ rows / len(rows)
    return covariance


def _whitening(covariance: Array, *, ridge: float) -> Array:
    variances, axes = np.linalg.eigh(covariance)
    whitening: Array = axes / np.sqrt(np.maximum(variances, 0) + ridge * variances.mean())
    return whitening
