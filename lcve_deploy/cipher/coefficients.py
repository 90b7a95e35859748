"""LCVE on the coefficients of cubes: transform, quantise, shuffle, and give signs.

Each plain cube gets an orthonormal 3-D DCT (over its colours too, if there are three) and is quantised with a step that
each clip states. Encrypted cube i, coefficient j = ``signs[K2[j]]`` times plain cube ``K1[i]``, coefficient ``K2[j]``.
This is lossy, and it is compression: it hides no more than ``lcve-1`` does.

Source: format, section "Scheme ``lcve-dct-1``".
"""

from __future__ import annotations

import functools
import math
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import COEFFICIENTS, STEP, coefficient_record
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders, Signs
from lcve_deploy.packing import MAX_INTEGER, require_step

__all__ = [
    "MIDDLE",
    "as_clips",
    "dequantised",
    "from_frequencies",
    "quantised",
    "reordered",
    "require_supported",
    "to_frequencies",
]

MIDDLE: Final = 128
"""Subtracted from a value before the transform."""
_ROUNDING: Final = 0.4
"""Below 0.5, so that more coefficients are zero; measured, between 0.35 and 0.4 is smallest at equal PSNR."""
_MAX_FACTOR: Final = 1024
_COLOURS: Final = 3

_Float = TypeVar("_Float", np.float32, np.float64)
Records = npt.NDArray[np.void]


def require_supported(geometry: ClipGeometry) -> None:
    """Refuse cubes whose transform would need large matrices.

    Raises:
        ValueError: t·h or w·C exceeds 1024.
    """
    t, h, w = geometry.cube
    if max(t * h, w * geometry.channels) > _MAX_FACTOR:
        raise ValueError(
            f"the scheme lcve-dct-1 needs cubes with t·h and w·C of at most {_MAX_FACTOR}, received {geometry}"
        )


def quantised(clips: npt.NDArray[np.uint8], orders: Orders, *, step: float) -> Records:
    """Encrypt clips ``[..., T, H, W, C]`` to records ``[...]``.

    Raises:
        ValueError: the values are not uint8, or the step is out of range.
    """
    geometry = orders.geometry
    require_supported(geometry)
    require_step(step, geometry)
    if not isinstance(clips, np.ndarray) or clips.dtype != np.uint8:
        raise ValueError(f"the scheme lcve-dct-1 encrypts NumPy clips of dtype uint8, received {type(clips).__name__}")
    lead = clips.shape[:-4]
    records = np.empty(math.prod(lead), coefficient_record(geometry))
    records[STEP] = step
    for clip, record in zip(clips.reshape(-1, *geometry.clip_shape), records, strict=True):
        record[COEFFICIENTS][...] = _encrypted(clip, orders, np.float32(step))
    return records.reshape(lead)


def dequantised(records: Records, orders: Orders) -> npt.NDArray[np.float64]:
    """Decrypt records ``[...]`` to clips ``[..., T, H, W, C]``, in float64 and neither rounded nor clipped."""
    geometry = orders.geometry
    clips = np.empty((records.size, *geometry.clip_shape))
    for record, clip in zip(records.reshape(-1), clips, strict=True):
        wire = record[COEFFICIENTS].astype(np.float64) * np.float64(record[STEP])
        plain = np.empty_like(wire)
        plain[np.ix_(orders.cube_order, orders.pixel_order)] = wire
        cubes = from_frequencies(plain * _signs(orders), geometry) + MIDDLE
        clip[...] = geometry.from_cubes(cubes, np)
    return clips.reshape(*records.shape, *geometry.clip_shape)


def as_clips(records: Records, geometry: ClipGeometry) -> npt.NDArray[np.float64]:
    """Return the ciphertext of records ``[...]`` in the places of clips ``[..., T, H, W, C]``, without a key."""
    steps = records[STEP].astype(np.float64)[..., None, None]
    clips: npt.NDArray[np.float64] = geometry.from_cubes(records[COEFFICIENTS] * steps + MIDDLE, np)
    return clips


def reordered(records: Records, old: Orders, new: Orders) -> Records:
    """Return records ``[...]`` in the orders and signs of another key; only places and signs change."""
    result = records.copy()
    for source, target in zip(records.reshape(-1), result.reshape(-1), strict=True):
        plain = np.empty_like(source[COEFFICIENTS])
        plain[np.ix_(old.cube_order, old.pixel_order)] = source[COEFFICIENTS]
        signed = plain * (_signs(old) * _signs(new)).astype(np.float16) + np.float16(0)  # no negative zero
        target[COEFFICIENTS][...] = signed[np.ix_(new.cube_order, new.pixel_order)]
    return result


def to_frequencies(cubes: npt.NDArray[_Float], geometry: ClipGeometry) -> npt.NDArray[_Float]:
    """Return the orthonormal 3-D DCT of rows ``[..., L]``, in their dtype."""
    outer, inner = (factor.astype(cubes.dtype) for factor in _factors(geometry))
    apart = cubes.reshape(-1, len(outer), len(inner))
    frequencies: npt.NDArray[_Float] = np.matmul(outer, np.matmul(apart, inner.T)).reshape(cubes.shape)
    return frequencies


def from_frequencies(rows: npt.NDArray[_Float], geometry: ClipGeometry) -> npt.NDArray[_Float]:
    """Return the inverse of ``to_frequencies``."""
    outer, inner = (factor.astype(rows.dtype) for factor in _factors(geometry))
    apart = rows.reshape(-1, len(outer), len(inner))
    cubes: npt.NDArray[_Float] = np.matmul(outer.T, np.matmul(apart, inner)).reshape(rows.shape)
    return cubes


def _encrypted(clip: npt.NDArray[np.uint8], orders: Orders, step: np.float32) -> npt.NDArray[np.float32]:
    cubes = orders.geometry.to_cubes(clip, np)[orders.cube_order].astype(np.float32)
    cubes -= MIDDLE
    scaled = to_frequencies(cubes, orders.geometry)
    scaled /= step
    signed = np.minimum(np.floor(np.abs(scaled) + np.float32(_ROUNDING)), MAX_INTEGER)
    np.copysign(signed, scaled * _signs(orders).astype(np.float32), out=signed)
    signed += np.float32(0)  # no negative zero
    return np.take(signed, orders.pixel_order, axis=1)


def _signs(orders: Orders) -> Signs:
    if orders.signs is None:
        raise ValueError("expected orders of the scheme lcve-dct-1, received orders of lcve-1")
    return orders.signs


@functools.lru_cache(maxsize=8)
def _factors(geometry: ClipGeometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the transform of (t, h) and that of (w, C): their Kronecker product is that of a cube."""
    t, h, w = geometry.cube
    colours = _dct(_COLOURS) if geometry.channels == _COLOURS else np.eye(geometry.channels)
    outer: npt.NDArray[np.float64] = np.kron(_dct(t), _dct(h)).astype(np.float64)
    return outer, np.kron(_dct(w), colours).astype(np.float64)


def _dct(size: int) -> npt.NDArray[np.float64]:
    """Return the orthonormal DCT-II, ``[frequency, value]``."""
    frequency, value = np.arange(size)[:, None], np.arange(size)
    basis: npt.NDArray[np.float64] = np.sqrt(2 / size) * np.cos(np.pi * (2 * value + 1) * frequency / (2 * size))
    basis[0] /= np.sqrt(2)
    return basis
