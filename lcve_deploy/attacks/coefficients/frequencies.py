"""The transform and the quantiser of ``lcve-dct-1``, which are public, with SciPy.

Source: format, section "Coefficients".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry

__all__ = ["energies", "quantised", "to_basis", "to_frequencies", "to_values"]

Floats = npt.NDArray[np.floating]

_MIDDLE: Final = 128
_ROUNDING: Final = 0.4
_COLOURS: Final = 3
_MAX_VALUE: Final = 255


def to_frequencies(rows: npt.NDArray[Any], geometry: ClipGeometry) -> npt.NDArray[Any]:
    """Return the orthonormal DCT of rows ``[..., L]`` along the axes of a cube, and along three colours."""
    from scipy.fft import dctn

    apart, axes = _apart(rows, geometry)
    transformed: npt.NDArray[Any] = dctn(apart, axes=axes, norm="ortho")
    return transformed.reshape(rows.shape)


def to_values(rows: npt.NDArray[Any], geometry: ClipGeometry) -> Floats:
    """Return plain cubes of plain coefficients ``[..., L]``, from 0 to 255."""
    return np.clip(to_basis(rows, geometry) + _MIDDLE, 0, _MAX_VALUE)


def to_basis(rows: npt.NDArray[Any], geometry: ClipGeometry) -> Floats:
    """Return the inverse of ``to_frequencies``."""
    from scipy.fft import idctn

    apart, axes = _apart(rows, geometry)
    values: Floats = idctn(apart, axes=axes, norm="ortho").reshape(rows.shape)
    return values


def quantised(cubes: npt.NDArray[Any], geometry: ClipGeometry, step: float) -> npt.NDArray[np.float32]:
    """Return the coefficients of plain cubes ``[..., L]``, values 0..255, as multiples of a step."""
    frequencies = to_frequencies(cubes.astype(np.float32) - _MIDDLE, geometry)
    whole = np.sign(frequencies) * np.floor(np.abs(frequencies) / np.float32(step) + np.float32(_ROUNDING))
    multiples: npt.NDArray[np.float32] = (whole * np.float32(step)).astype(np.float32)
    return multiples


def energies(cubes: npt.NDArray[Any], geometry: ClipGeometry) -> npt.NDArray[np.float64]:
    """Return the energy of each plain coefficient over plain cubes ``[N, L]``, values 0..255."""
    coefficients = to_frequencies(cubes.astype(np.float64) - _MIDDLE, geometry)
    energy: npt.NDArray[np.float64] = (coefficients**2).sum(axis=0)
    return energy


def _apart(rows: npt.NDArray[Any], geometry: ClipGeometry) -> tuple[npt.NDArray[Any], tuple[int, ...]]:
    axes = (-4, -3, -2, -1) if geometry.channels == _COLOURS else (-4, -3, -2)
    return rows.reshape(*rows.shape[:-1], *geometry.cube, geometry.channels), axes
