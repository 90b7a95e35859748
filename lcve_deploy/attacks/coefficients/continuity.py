"""What continuity says about coefficients: how those of neighbouring cubes depend on each other in natural video.

Values of natural video are correlated over time and space, on all scales. For a mixture of such fields, the covariance
of two coefficients of the same cube or of neighbouring ones is a sum of products, one factor for each axis. So a
coefficient can be predicted from those of its neighbours that are already known: along an axis, from the coefficients
that differ from it only in their frequency along this axis.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry

__all__ = ["NEIGHBOURS", "Continuity"]

Floats = npt.NDArray[Any]

NEIGHBOURS: Final = tuple((axis, step) for axis in range(3) for step in (-1, 1))
"""Neighbours of a cube: axis, and whether before or after."""

_MAX_FREQUENCIES: Final = 16
"""Frequencies along an axis that are considered."""
_IN_SPACE: Final = (4.0, 16.0, 64.0, 256.0)
_OVER_TIME: Final = (3.0, 1000.0)
"""Lengths over which the fields are correlated, in pixels and in frames."""
_LAGS: Final = (-2, -1, 0, 1, 2)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Continuity:
    """Statistics of the coefficients of one colour component, by the index of a frequency in ``shape``.

    Args:
        shape: number of frequencies along each axis.
        kernels: covariances along each axis, ``[mixture, lags, frequencies, frequencies]``.
        axes: axes along which cubes have neighbours.
    """

    shape: tuple[int, int, int]
    kernels: tuple[Floats, Floats, Floats]
    axes: tuple[int, ...]
    regressions: dict[int, _Regression] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, geometry: ClipGeometry) -> Continuity:
        """Return the statistics of natural video in cubes of this geometry."""
        lengths = [(time, space, space) for space in _IN_SPACE for time in _OVER_TIME]
        kernels = [
            np.stack([_kernel(size, scales[axis]) for scales in lengths]) for axis, size in enumerate(geometry.cube)
        ]
        t, h, w = (min(size, _MAX_FREQUENCIES) for size in geometry.cube)
        axes = tuple(axis for axis, size in enumerate(geometry.grid) if size > 1)
        return cls(shape=(t, h, w), kernels=(kernels[0], kernels[1], kernels[2]), axes=axes)

    @cached_property
    def places(self) -> npt.NDArray[np.int64]:
        """Frequency along each axis, ``[frequencies, 3]``."""
        return np.stack(np.unravel_index(np.arange(math.prod(self.shape)), self.shape), axis=1).astype(np.int64)

    @cached_property
    def variances(self) -> Floats:
        """Variance of each coefficient."""
        return self._with_itself((0, 0, 0))

    @cached_property
    def signatures(self) -> Floats:
        """Correlation of each coefficient with itself in the next cube along each axis, ``[frequencies, 3]``."""
        lags = np.eye(3, dtype=int)
        return np.stack([self._with_itself(tuple(lag)) / self.variances for lag in lags], axis=1)

    def regression(self, frequency: int) -> _Regression:
        """Return what a coefficient can be predicted from."""
        if frequency not in self.regressions:
            self.regressions[frequency] = self._regression(frequency)
        return self.regressions[frequency]

    def _with_itself(self, lag: tuple[int, ...]) -> Floats:
        along = [
            kernel[:, lag[axis] + 2, self.places[:, axis], self.places[:, axis]]
            for axis, kernel in enumerate(self.kernels)
        ]
        covariances: Floats = np.prod(along, axis=0).sum(axis=0)
        return covariances

    def _regression(self, frequency: int) -> _Regression:
        own, neighbours, partners = self.places[frequency], [], []
        for number, (axis, _) in enumerate(NEIGHBOURS):
            if axis in self.axes:
                line = np.tile(own, (self.shape[axis], 1))
                line[:, axis] = np.arange(self.shape[axis])
                partners.append(line)
                neighbours += [number] * len(line)
        known = np.concatenate(partners)
        lags = np.array([[step * (axis == a) for a in range(3)] for axis, step in NEIGHBOURS])[neighbours]
        apart = lags[None, :] - lags[:, None] + 2
        among: Floats = np.ones(1)
        own_with: Floats = np.ones(1)
        for axis, kernel in enumerate(self.kernels):
            among = among * kernel[:, apart[..., axis], known[:, None, axis], known[None, :, axis]]
            own_with = own_with * kernel[:, lags[:, axis] + 2, own[axis], known[:, axis]]
        return _Regression(
            neighbours=np.array(neighbours),
            frequencies=np.ravel_multi_index(tuple(known.T), self.shape),
            among=np.sum(among, axis=0),
            own_with=np.sum(own_with, axis=0),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Regression:
    """What a coefficient can be predicted from: coefficients of neighbours, and all covariances."""

    neighbours: npt.NDArray[np.int64]
    frequencies: npt.NDArray[np.int64]
    among: Floats
    own_with: Floats

    def weights(self, known: Mapping[int, Any], own: int, noise: float) -> tuple[npt.NDArray[np.int64], Floats, float]:
        """Return the indices of known partners except itself, their weights, and the variance that they explain."""
        used = np.array([i for i, f in enumerate(self.frequencies) if f != own and f in known], dtype=np.int64)
        if not len(used):
            return used, np.zeros(0), 0.0
        among = self.among[np.ix_(used, used)] + noise * np.eye(len(used))
        weights = np.linalg.solve(among, self.own_with[used])
        return used, weights, float(weights @ self.own_with[used])


def _kernel(size: int, length: float) -> Floats:
    """Return the covariances of the first coefficients of two cubes of ``size`` values, by lag in cubes."""
    from scipy.fft import dct

    basis = dct(np.eye(size), axis=0, norm="ortho")[:_MAX_FREQUENCIES]
    values = np.arange(size)
    apart = [np.abs(values[:, None] - (values + lag * size)) for lag in _LAGS]
    return np.stack([basis @ np.exp(-distance / length) @ basis.T for distance in apart])
