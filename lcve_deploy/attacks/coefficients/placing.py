"""Place the strongest columns at frequencies: a beam search by energy, and then improvements.

Low frequencies come first: a frequency can be taken once the next or the second lower one along every axis is taken.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.evidence import Evidence, Place, Placed, total_fit
from lcve_deploy.attacks.solvers.assignment import assign

__all__ = ["place_columns"]

Floats = npt.NDArray[Any]
_Fits = dict[Place, tuple[Floats, Floats]]

_WIDTH: Final = 24
_BRANCHES: Final = 6
_SKIPPING: Final = 12.0
"""Cost of leaving a column out for now."""
_REFINEMENTS: Final = 4
_SPARE: Final = 20
_IMPROVEMENTS: Final = 6
_EXCHANGES: Final = 60
_MIN_GAIN: Final = -6.0


def place_columns(evidence: Evidence, count: int) -> Placed:
    """Return places for the ``count`` strongest columns, as far as they are found."""
    count = min(count, len(evidence.columns))
    placed = _refined(evidence, _searched(evidence, count))
    for _ in range(_IMPROVEMENTS):
        better = _improved(evidence, placed)
        if better == placed:
            break
        placed = better
    return placed


@dataclass(frozen=True, kw_only=True, eq=False)
class _State:
    """A part of a placement, with the predictions that are still valid."""

    score: float
    placed: Placed
    predictions: dict[Place, tuple[Floats, float]] = field(default_factory=dict)


def _searched(evidence: Evidence, count: int) -> Placed:
    """Place one column after the other, the strongest first, and keep the best partial placements."""
    states = [_State(score=0.0, placed={(0, 0): (0, 1)})]
    for column in range(1, count):
        following = [after for state in states for after in _followers(evidence, state, column)]
        distinct: dict[frozenset[tuple[Place, tuple[int, int]]], _State] = {}
        for state in sorted(following, key=lambda state: -state.score):
            distinct.setdefault(frozenset(state.placed.items()), state)
            if len(distinct) >= _WIDTH:
                break
        states = list(distinct.values())
    return states[0].placed


def _followers(evidence: Evidence, state: _State, column: int) -> Iterator[_State]:
    """Yield the state with the column at its best places, and without it."""
    expected = evidence.expected_energies(state.placed)
    places, predictions = list(_open_places(evidence, state.placed)), dict(state.predictions)
    choices: list[tuple[float, Place, int]] = []
    for place in places:
        if place not in predictions:
            predictions[place] = evidence.prediction(state.placed, place)
        prediction, reach = predictions[place]
        correlation = float(prediction @ evidence.series[:, column])
        penalty = float(evidence.penalties(place, np.array([column]), expected)[0])
        gains = evidence.gains(np.array([correlation, -correlation]), reach)
        choices += [(float(gain) - penalty, place, sign) for gain, sign in zip(gains, (1, -1), strict=True)]
    for fit, place, sign in sorted(choices, key=lambda choice: -choice[0])[:_BRANCHES]:
        yield _State(
            score=state.score + fit,
            placed={**state.placed, place: (column, sign)},
            predictions={other: held for other, held in predictions.items() if not _depends(evidence, other, place)},
        )
    yield _State(score=state.score - _SKIPPING, placed=state.placed, predictions=predictions)


def _open_places(evidence: Evidence, placed: Placed) -> Iterator[Place]:
    """Yield the places that may be taken next."""
    shape, places = evidence.continuity.shape, evidence.continuity.places
    steps = [math.prod(shape[axis + 1 :]) for axis in range(3)]
    for component in range(evidence.components):
        if (component, 0) not in placed:
            yield component, 0
            return
        for frequency, along in enumerate(places):
            lower = (
                (component, frequency - step) in placed or (at > 1 and (component, frequency - 2 * step) in placed)
                for at, step in zip(along, steps, strict=True)
                if at
            )
            if (component, frequency) not in placed and all(lower):
                yield component, frequency


def _depends(evidence: Evidence, place: Place, on: Place) -> bool:
    """Return whether a prediction depends on a place: on the same one, or one that differs along one axis only."""
    places = evidence.continuity.places
    return place[0] == on[0] and int((places[place[1]] != places[on[1]]).sum()) <= 1


def _refined(evidence: Evidence, placed: Placed) -> Placed:
    """Assign columns to the same places once more, by their fit to all the others."""
    for _ in range(_REFINEMENTS):
        taken = {column for column, _ in placed.values()}
        spare = [column for column in range(len(evidence.columns)) if column not in taken][:_SPARE]
        places = [place for place in placed if place[1] != 0]
        columns = np.array([placed[place][0] for place in places] + spare)
        if not len(columns):
            return placed
        fits, correlations = _table(evidence, placed, places, columns)
        chosen = assign(fits)
        kept = {place: held for place, held in placed.items() if place[1] == 0}
        better = kept | {
            place: (int(columns[c]), 1 if correlations[row, c] >= 0 else -1)
            for row, (place, c) in enumerate(zip(places, chosen, strict=True))
        }
        if better == placed or total_fit(evidence, better) < total_fit(evidence, placed):
            return placed
        placed = better
    return placed


def _improved(evidence: Evidence, placed: Placed) -> Placed:
    """Change signs, and move or exchange columns, where all fit better afterwards."""
    count = len(evidence.columns)
    best = total_fit(evidence, placed)
    places = [place for place in placed if place != (0, 0)] + list(_open_places(evidence, placed))
    fits, correlations = _table(evidence, placed, places, np.arange(count))
    at = {column: place for place, (column, _) in placed.items()}
    row = {place: number for number, place in enumerate(places)}
    for place in list(placed)[1:]:
        column, sign = placed[place]
        tried = {**placed, place: (column, -sign)}
        score = total_fit(evidence, tried)
        if score > best:
            placed, best = tried, score
    for column, place in _exchanges(fits, places, placed, count):
        tried = dict(placed)
        old, (other, _) = at.get(column), placed.get(place, (None, 0))
        if other == column or old == (0, 0):
            continue
        if old is not None:
            tried.pop(old, None)
            if other is not None:
                tried[old] = (other, 1 if correlations[row[old], other] >= 0 else -1)
        tried[place] = (column, 1 if correlations[row[place], column] >= 0 else -1)
        score = total_fit(evidence, tried)
        if score > best:
            placed, best, at = tried, score, {held: where for where, (held, _) in tried.items()}
    return placed


def _exchanges(fits: Floats, places: list[Place], placed: Placed, count: int) -> list[tuple[int, Place]]:
    """Return columns and places that they may fit better, the most promising first."""
    holder, held_at = np.full(len(places), -1), np.full(count, -1)
    for number, place in enumerate(places):
        if place in placed and placed[place][0] < count:
            holder[number], held_at[placed[place][0]] = placed[place][0], number
    now = np.where(held_at >= 0, fits[held_at, np.arange(count)], -_SKIPPING)
    gains = fits - now
    for number, other in enumerate(holder):
        if other >= 0:  # it takes the place of the column
            gains[number] += np.where(held_at >= 0, fits[held_at, other], -_SKIPPING) - fits[number, other]
            gains[number, other] = -np.inf
    order = np.argsort(-gains, axis=None)[:_EXCHANGES]
    pairs = [np.unravel_index(number, gains.shape) for number in order if gains.flat[number] > _MIN_GAIN]
    return [(int(column), places[int(number)]) for number, column in pairs]


def _table(
    evidence: Evidence, placed: Placed, places: list[Place], columns: npt.NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Return fits and correlations of columns with the predictions of places, ``[places, columns]``."""
    expected = evidence.expected_energies(placed)
    pairs = [evidence.fit(placed, place, columns, expected) for place in places]
    return np.stack([fit for fit, _ in pairs]), np.stack([correlation for _, correlation in pairs])
