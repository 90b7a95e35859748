"""LCVE on the coefficients of cubes: transform, quantise, shuffle, and give signs.

Each plain cube gets an orthonormal 3-D DCT (over its colours too, if there are three) and is quantised with a step that
each clip states. Encrypted cube i, coefficient j = ``signs[K2[j]]`` times plain cube ``K1[i]``, coefficient ``K2[j]``.
This is lossy, and it is compression: it hides no more than ``lcve-1`` does.

Source: format, section "Scheme ``lcve-dct-1``".
"""

from __future__ import annotations

import functools
import math
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.device_tables import on_device
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
_FLOAT16: Final = np.concatenate([np.arange(MAX_INTEGER + 1), np.arange(-MAX_INTEGER, 0)]).astype(np.float16)
"""Each integer, by itself as an index; NumPy converts numbers to float16 slowly."""
_BLOCK_VALUES: Final = 2**17
"""Maximum values of cubes that NumPy encrypts together, unless one has more."""
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


def quantised(clips: Any, orders: Orders, xp: Any, *, step: float) -> Records:
    """Encrypt clips ``[..., T, H, W, C]`` to records ``[...]``, on the device of the clips.

    Args:
        clips: uint8 values.
        orders: of the key.
        xp: array API functions of the clips' library.
        step: quantisation step.

    Raises:
        ValueError: the values are not uint8, or the step is out of range.
    """
    geometry = orders.geometry
    require_supported(geometry)
    require_step(step, geometry)
    if clips.dtype != xp.uint8:
        raise ValueError(f"the scheme lcve-dct-1 encrypts clips of dtype uint8, received {clips.dtype}")
    lead = tuple(clips.shape[:-4])
    records = np.empty(math.prod(lead), coefficient_record(geometry))
    records[STEP] = step
    tables = on_device(clips, orders, xp, _tables)
    numbers = xp.asarray(np.asarray([step, _ROUNDING], np.float32), device=clips.device)
    flat, size = xp.reshape(clips, (len(records), *geometry.clip_shape)), _block_size(geometry, xp)
    for i, record in enumerate(records):
        cubes, target = geometry.to_cubes(flat[i, ...], xp), record[COEFFICIENTS]
        for first in range(0, geometry.cubes, size):
            block = slice(first, first + size)
            target[block] = _FLOAT16.take(_on_host(_encrypted(cubes, block, tables, numbers, xp), xp))
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
    frequencies: npt.NDArray[_Float] = _transformed(cubes, outer, inner, np)
    return frequencies


def _transformed(cubes: Any, outer: Any, inner: Any, xp: Any) -> Any:
    apart = xp.reshape(cubes, (-1, outer.shape[0], inner.shape[0]))
    return xp.reshape(xp.matmul(outer, xp.matmul(apart, inner.T)), cubes.shape)


def from_frequencies(rows: npt.NDArray[_Float], geometry: ClipGeometry) -> npt.NDArray[_Float]:
    """Return the inverse of ``to_frequencies``."""
    outer, inner = (factor.astype(rows.dtype) for factor in _factors(geometry))
    apart = rows.reshape(-1, outer.shape[0], inner.shape[0])
    cubes: npt.NDArray[_Float] = np.matmul(outer.T, np.matmul(apart, inner)).reshape(rows.shape)
    return cubes


def _encrypted(cubes: Any, block: slice, tables: tuple[Any, ...], numbers: Any, xp: Any) -> Any:
    """Return a block of encrypted cubes, int16, of all plain ones ``[N, L]``."""
    cube_order, pixel_order, signs, outer, inner = tables
    step, rounding = numbers[0], numbers[1]
    taken = xp.asarray(xp.take(cubes, cube_order[block], axis=0), dtype=xp.float32) - MIDDLE
    scaled = _transformed(taken, outer, inner, xp) / step
    rounded = xp.asarray(scaled + xp.copysign(rounding, scaled), dtype=xp.int16)  # the cast cuts the fraction off
    return xp.take(xp.clip(rounded, -MAX_INTEGER, MAX_INTEGER), pixel_order, axis=1) * signs


def _block_size(geometry: ClipGeometry, xp: Any) -> int:
    """Return how many cubes are encrypted together: on a device all, and with NumPy what stays in a core's cache."""
    return max(1, _BLOCK_VALUES // geometry.values) if xp is np else geometry.cubes


def _tables(orders: Orders) -> tuple[Any, ...]:
    """Return both orders, the signs of encrypted coefficients, and the transform."""
    factors = (factor.astype(np.float32) for factor in _factors(orders.geometry))
    signs = _signs(orders)[orders.pixel_order].astype(np.int16)
    return (orders.cube_order.copy(), orders.pixel_order.copy(), signs, *factors)


def _on_host(values: Any, xp: Any) -> npt.NDArray[np.int16]:
    if xp is np:
        host: npt.NDArray[np.int16] = values
        return host
    import array_api_compat

    return np.asarray(array_api_compat.to_device(values, "cpu"))


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
