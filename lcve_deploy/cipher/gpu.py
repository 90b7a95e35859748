"""Encrypt clips that are on a GPU: one kernel, whose tables stay on the device.

Bytes in CuPy arrays have a kernel of their own, which writes four bytes at a time. Other arrays are gathered by an
index of all values.

Source: documentation of CuPy, ``RawKernel``.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.cipher.device_tables import on_device
from lcve_deploy.clips import Layout
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders

__all__ = ["encrypted_on_gpu", "is_on_gpu"]

Index = npt.NDArray[np.int32]

_MAX_VALUES: Final = 2**26
"""Values of the largest clip for which a GPU keeps an index, of four times its bytes."""
_WORD: Final = 4
_THREADS: Final = 128
_SHUFFLE: Final = r"""
extern "C" __global__ void shuffle(
    const unsigned char* plain, unsigned char* encrypted,
    const int* from_cubes, const int4* from_values, const int* to_cubes, const int* to_words,
    int cubes, int words, long long clip_bytes)
{
    int cube = blockIdx.x % cubes;
    long long clip = blockIdx.x / cubes * clip_bytes;
    const unsigned char* from = plain + clip + from_cubes[cube];
    unsigned char* to = encrypted + clip + to_cubes[cube];
    for (int word = threadIdx.x; word < words; word += blockDim.x) {
        int4 value = from_values[word];
        *(uchar4*)(to + to_words[word]) = make_uchar4(from[value.x], from[value.y], from[value.z], from[value.w]);
    }
}
"""
"""A block for each encrypted cube. A word is four values that are next to each other in the encrypted clip."""


def is_on_gpu(values: Any, geometry: ClipGeometry) -> bool:
    """Return whether these functions take an array: one on a GPU, of clips that are not too large."""
    if isinstance(values, np.ndarray) or geometry.cubes * geometry.values > _MAX_VALUES:
        return False
    import array_api_compat

    in_torch = bool(array_api_compat.is_torch_array(values))
    return bool(array_api_compat.is_cupy_array(values)) or (in_torch and values.device.type == "cuda")


def encrypted_on_gpu(values: Any, orders: Orders, layout: Layout, xp: Any) -> Any:
    """Return clips ``[..., T, H, W, C]`` encrypted, in the layout and on the same device.

    Args:
        values: clips.
        orders: of the key.
        layout: of the encrypted clips.
        xp: array API functions of the array's library.
    """
    import array_api_compat

    shape = (*values.shape[:-4], *layout.shape(orders.geometry))
    if array_api_compat.is_cupy_array(values) and _has_words(values, orders.geometry, layout):
        return _shuffled(values, orders, layout, xp).reshape(shape)
    (index,) = on_device(values, orders, xp, _index, layout)
    taken = xp.take(xp.reshape(values, (*values.shape[:-4], -1)), index, axis=-1)
    return xp.reshape(taken, shape)


def _has_words(values: Any, geometry: ClipGeometry, layout: Layout) -> bool:
    """Return whether four values that are next to each other in an encrypted clip come from the same cube."""
    run = geometry.values if layout is Layout.CUBES else geometry.cube[2] * geometry.channels
    return values.dtype == np.uint8 and run % _WORD == 0


def _shuffled(values: Any, orders: Orders, layout: Layout, xp: Any) -> Any:
    import cupy

    geometry, values = orders.geometry, cupy.ascontiguousarray(values)
    tables = on_device(values, orders, xp, _words, layout)
    size = geometry.cubes * geometry.values
    result = cupy.empty_like(values)
    sizes = (np.int32(geometry.cubes), np.int32(geometry.values // _WORD), np.int64(size))
    if values.size:
        with values.device:
            _kernel()((values.size // geometry.values,), (_THREADS,), (values, result, *tables, *sizes))
    return result


@cache
def _kernel() -> Any:
    import cupy

    return cupy.RawKernel(_SHUFFLE, "shuffle")


def _index(orders: Orders, layout: Layout) -> tuple[Index]:
    """Return which value of a plain clip comes at each place of the encrypted one, flat."""
    index = _places(orders.geometry)[orders.cube_order][:, orders.pixel_order]
    if layout is Layout.VIDEO:
        index = orders.geometry.from_cubes(index, np)
    return (np.ascontiguousarray(index).reshape(-1),)


def _words(orders: Orders, layout: Layout) -> tuple[Index, Index, Index, Index]:
    """Return tables for the kernel.

    Returns:
        For each encrypted cube, the place of the first value of its plain cube in the clip; for each encrypted value,
        the place of its plain value after that; the same two for encrypted cubes and for the words in them.
    """
    plain = _places(orders.geometry)
    target = plain if layout is Layout.VIDEO else np.arange(plain.size, dtype=np.int32).reshape(plain.shape)
    from_cubes, from_values = plain[orders.cube_order, 0], (plain[0] - plain[0, 0])[orders.pixel_order]
    to_cubes, to_words = target[:, 0], (target[0] - target[0, 0])[::_WORD]
    tables = (from_cubes, from_values, to_cubes, to_words)
    first, second, third, fourth = (np.ascontiguousarray(table) for table in tables)
    return first, second, third, fourth


def _places(geometry: ClipGeometry) -> Index:
    """Return the place in a clip, flat, of each value of each cube, ``[N, L]``."""
    places = np.arange(geometry.cubes * geometry.values, dtype=np.int32).reshape(geometry.clip_shape)
    cubes: Index = geometry.to_cubes(places, np)
    return cubes
