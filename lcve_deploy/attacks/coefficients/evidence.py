"""How well an encrypted coefficient fits a frequency, given the coefficients that are already placed.

Three clues: its energy, compared with the energies that natural video has; its correlation with itself in the next cube
along each axis, which is negative for odd frequencies along this axis; and its correlation with what continuity
predicts from the coefficients that are placed, in neighbouring cubes. The sign of the last one is its sign.

Textured cubes would dominate all correlations, so every cube is scaled by its texture, and large values are cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.continuity import NEIGHBOURS, Continuity
from lcve_deploy.attacks.holdings import Cubes, Order
from lcve_deploy.geometry import ClipGeometry

__all__ = ["Evidence", "Place", "Placed", "total_fit"]

Floats = npt.NDArray[Any]
Place = tuple[int, int]
"""Colour component, and frequency."""
Placed = Mapping[Place, tuple[int, int]]
"""Column and sign at each place; columns are numbered by energy, the strongest first."""

_CUT: Final = 2.5
_DEPENDENT: Final = 8
"""Cubes that count as one independent sample: neighbours are alike."""
_TRUST: Final = (0.35, 1.1)
"""Real correlations as shares of the predicted ones."""
_MAX_CORRELATION: Final = 0.98
_ENERGY_DEVIATIONS: Final = (0.9, 1.3)
"""Of logarithms, of frequencies in space alone and of those in time."""
_ENERGY_DEVIATION_OF_COLOURS: Final = 3.0
_MAX_DEVIATION: Final = 3.0
_SIGNATURE_DEVIATION: Final = (0.4, 0.22, 0.22)
_MAX_SIGNATURE_PENALTY: Final = 5.0
_MIN_COLOUR_SIGNATURE: Final = 0.3
"""The mean of a colour is similar in neighbouring cubes along every axis."""
_NEVER: Final = 1e3
_COLOUR_LEVEL: Final = -2.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """The strongest columns of encrypted clips in the plain order of cubes, and what fits them.

    Args:
        continuity: statistics of natural video.
        components: number of colour components.
        columns: encrypted index of each column.
        activity: texture of each cube, ``[samples, 1]``.
        series: columns relative to the texture, cut and of unit length, ``[samples, columns]``; zero for a column
            that is the same in all cubes.
        beyond: columns in each neighbour of a cube, zero outside, ``[6, samples, columns]``.
        signatures: correlation with the next cube along each axis, NaN without one, ``[columns, 3]``.
        energies: logarithms, ``[columns]``.
        noise: variance of quantisation, relative to the statistics.
        independent: number of independent samples; several clips of one scene hardly have more than one.
    """

    continuity: Continuity
    components: int
    columns: Order
    activity: Floats
    series: Floats
    beyond: Floats
    signatures: Floats
    energies: Floats
    noise: float
    independent: float

    @classmethod
    def of(cls, clips: Cubes, geometry: ClipGeometry, count: int) -> Evidence:
        """Collect the evidence of clips ``[clips, N, L]`` in the plain order of cubes.

        Args:
            clips: coefficients.
            geometry: geometry of the clips.
            count: number of columns to consider.
        """
        samples, channels = clips.reshape(-1, clips.shape[-1]), geometry.channels
        power = (samples.astype(np.float64) ** 2).mean(axis=0)
        columns = np.argsort(-power)[:count]
        rows = samples[:, columns[power[columns] > 0]].astype(np.float32)
        rows[:, :channels] -= rows[:, :channels].mean(axis=0)
        step = float(np.abs(samples[samples != 0]).min()) if samples.any() else 1.0
        texture = np.sqrt((rows[:, channels:] ** 2).sum(axis=1))
        activity = np.sqrt(texture**2 + np.median(texture) ** 2 + step**2)[:, None]
        relative = rows / activity
        cut = np.clip(relative / np.sqrt((relative**2).mean(axis=0) + 1e-12), -_CUT, _CUT)
        length = np.linalg.norm(cut, axis=0)
        energies = np.log((rows**2).mean(axis=0) + 1e-9)
        continuity = Continuity.of(geometry)
        on_grid = rows.reshape(-1, *geometry.grid, rows.shape[1])
        return cls(
            continuity=continuity,
            components=channels,
            columns=columns[: rows.shape[1]],
            activity=activity,
            series=cut / np.where(length > 0, length, 1),
            beyond=np.stack([_beyond(on_grid, axis, step).reshape(rows.shape) for axis, step in NEIGHBOURS]),
            signatures=_signatures(relative.reshape(on_grid.shape)),
            energies=energies,
            noise=step**2 / 6 * float(continuity.variances[0] / np.exp(energies[0])),
            independent=geometry.cubes / _DEPENDENT,
        )

    def fit(self, placed: Placed, place: Place, columns: Order, expected: Floats) -> tuple[Floats, Floats]:
        """Return how well columns fit a place, and their correlations with its prediction.

        Args:
            placed: columns that are placed.
            place: place to fit; its own column is not used.
            columns: columns to try.
            expected: from ``expected_energies``.
        """
        return self.fit_to(self.prediction(placed, place), place, columns, expected)

    def fit_to(
        self, predicted: tuple[Floats, float], place: Place, columns: Order, expected: Floats
    ) -> tuple[Floats, Floats]:
        """Return the same as ``fit`` for a prediction."""
        correlations = predicted[0] @ self.series[:, columns]
        gains = self.gains(np.abs(correlations), predicted[1])
        return gains - self.penalties(place, columns, expected), correlations

    def gains(self, correlations: Floats, reach: float) -> Floats:
        """Return how much more likely correlations with a prediction are than none at all.

        Args:
            correlations: with the sign of the column.
            reach: correlation to expect; real ones may be lower.
        """
        low, high = (share * reach for share in _TRUST)
        true = np.clip(correlations, low, min(high, _MAX_CORRELATION))
        gain = -0.5 * np.log(1 - true**2) - (true**2 - true * correlations) / (1 - true**2)
        gains: Floats = self.independent * gain
        return gains

    def prediction(self, placed: Placed, place: Place) -> tuple[Floats, float]:
        """Return what continuity predicts for a place, of unit length, and the correlation to expect."""
        component, own = place
        known = {f: placed[c, f] for c, f in placed if c == component}
        regression = self.continuity.regression(own)
        used, weights, explained = regression.weights(known, own, self.noise * self._scale(placed, component))
        if not len(used):
            return np.zeros(len(self.series)), 0.0
        held = np.array([known[int(f)] for f in regression.frequencies[used]])
        sum_of_parts = self.beyond[regression.neighbours[used], :, held[:, 0]].T @ (weights * held[:, 1])
        relative = sum_of_parts / self.activity[:, 0]
        deviation = float(np.sqrt((relative**2).mean()))
        if not deviation:
            return np.zeros(len(self.series)), 0.0
        cut = np.clip(relative / deviation, -_CUT, _CUT)
        return cut / np.linalg.norm(cut), float(np.sqrt(explained / self.continuity.variances[own]))

    def expected_energies(self, placed: Placed) -> Floats:
        """Return the energy to expect at each place, ``[components, frequencies]``: the real ones, in natural order."""
        levels = [
            self.energies[placed[c, 0][0]] - self.energies[0] if (c, 0) in placed else _COLOUR_LEVEL - c
            for c in range(self.components)
        ]
        natural = np.concatenate([np.log(self.continuity.variances) + level for level in levels])
        weakest = np.full(len(natural), self.energies.min() - 1)
        weakest[: len(self.energies)] = np.sort(self.energies)[::-1][: len(natural)]
        expected = np.empty(len(natural))
        expected[np.argsort(-natural)] = weakest
        return expected.reshape(self.components, -1)

    def _scale(self, placed: Placed, component: int) -> float:
        """Return how much weaker a component is than light: its quantisation is relatively coarser."""
        if component == 0 or (component, 0) not in placed:
            return 1.0
        return max(1.0, float(np.exp(self.energies[0] - self.energies[placed[component, 0][0]])))

    def penalties(self, place: Place, columns: Order, expected: Floats) -> Floats:
        """Return how little the energies and signatures of columns fit a place."""
        component, frequency = place
        signatures, energies = self.signatures[columns], self.energies[columns]
        apart = np.nan_to_num((signatures - self.continuity.signatures[frequency]) / np.array(_SIGNATURE_DEVIATION))
        penalties: Floats = np.minimum(apart**2 / 2, _MAX_SIGNATURE_PENALTY).sum(axis=1)
        off = np.abs(energies - expected[component, frequency])
        if frequency == 0:
            rough = np.nan_to_num(signatures, nan=1.0).min(axis=1) < _MIN_COLOUR_SIGNATURE
            penalties += (off / _ENERGY_DEVIATION_OF_COLOURS) ** 2 / 2 + np.where(rough, _NEVER, 0)
            return penalties
        off = off / _ENERGY_DEVIATIONS[int(self.continuity.places[frequency, 0] > 0)]
        far = _MAX_DEVIATION * off - _MAX_DEVIATION**2 / 2
        penalties += np.where(off < _MAX_DEVIATION, off**2 / 2, far)
        return penalties


def total_fit(evidence: Evidence, placed: Placed) -> float:
    """Return how well all placed columns fit, each to the others, with their signs."""
    expected, total = evidence.expected_energies(placed), 0.0
    for place, (column, sign) in placed.items():
        if place != (0, 0):
            prediction, reach = evidence.prediction(placed, place)
            signed = np.array([sign * float(prediction @ evidence.series[:, column])])
            total += float(evidence.gains(signed, reach)[0])
            total -= float(evidence.penalties(place, np.array([column]), expected)[0])
    return total


def _beyond(on_grid: Floats, axis: int, step: int) -> Floats:
    """Return the value of the neighbour before or after each cube ``[clips, T, H, W, columns]``, zero outside."""
    shifted = np.zeros_like(on_grid)
    size = on_grid.shape[axis + 1]
    inner, outer = [slice(None)] * on_grid.ndim, [slice(None)] * on_grid.ndim
    inner[axis + 1], outer[axis + 1] = slice(0, size - 1), slice(1, size)
    if step < 0:
        inner, outer = outer, inner
    shifted[tuple(inner)] = on_grid[tuple(outer)]
    return shifted


def _signatures(on_grid: Floats) -> Floats:
    power = (on_grid**2).sum(axis=(0, 1, 2, 3)) + 1e-12
    signatures: list[Floats] = []
    for axis in range(3):
        size = on_grid.shape[axis + 1]
        along = (on_grid * _beyond(on_grid, axis, 1)).sum(axis=(0, 1, 2, 3)) / power
        signatures.append(along * size / (size - 1) if size > 1 else np.full(len(power), np.nan))
    return np.stack(signatures, axis=1)
