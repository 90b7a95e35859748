"""Encrypt and decrypt clips of bytes with NumPy, two rows of cubes at a time.

NumPy's ``take`` needs about as long for an element of two bytes as for one of a single byte. All rows of cubes are
shuffled in the same way, so two rows become one row of 16-bit words, each of a byte of either row: half as many
elements are taken. ``_exchange`` makes the words, and is its own inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import Layout
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Order, Orders

__all__ = ["are_paired", "decrypted", "encrypted"]

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint16]

_BLOCK_BYTES: Final = 1 << 19
"""Maximum bytes of rows that are shuffled together, unless one row has more: they stay in a core's cache."""
_LOW: Final = np.uint16(0x00FF)
_HIGH: Final = np.uint16(0xFF00)
_SHIFT: Final = np.uint16(256)


def are_paired(values: Any, geometry: ClipGeometry) -> bool:
    """Return whether these functions take an array: one of NumPy itself, of bytes, whose rows of cubes are even."""
    return type(values) is np.ndarray and values.dtype == np.uint8 and geometry.row_values % 2 == 0


def encrypted(clips: Bytes, orders: Orders, layout: Layout) -> Bytes:
    """Return clips ``[..., T, H, W, C]`` encrypted, in the layout."""
    geometry, lead = orders.geometry, clips.shape[:-4]
    result = np.empty((math.prod(lead), *layout.shape(geometry)), np.uint8)
    shuffle = _Shuffle.of(geometry, orders.word_gather)
    for plain, target in zip(clips.reshape(len(result), *geometry.clip_shape), result, strict=True):
        rows, put = geometry.rows_apart(plain, np), _writer(target, geometry, layout)
        for block, places in _blocks(geometry, orders.placement):
            put(places, shuffle(rows[block]))
    return result.reshape(*lead, *layout.shape(geometry))


def decrypted(clips: Bytes, orders: Orders, layout: Layout) -> Bytes:
    """Return encrypted clips in the layout as plain clips ``[..., T, H, W, C]``."""
    geometry = orders.geometry
    lead = clips.shape[: clips.ndim - len(layout.shape(geometry))]
    result = np.empty((math.prod(lead), *geometry.clip_shape), np.uint8)
    shuffle = _Shuffle.of(geometry, orders.word_scatter)
    for source, target in zip(clips.reshape(len(result), *layout.shape(geometry)), result, strict=True):
        rows, cubes = geometry.rows_apart(target, np), _cubes(source, geometry, layout)
        for block, places in _blocks(geometry, orders.placement):
            taken = cubes[_index(places, geometry, layout)]
            rows[block] = shuffle(taken).reshape(rows[block].shape)
    return result.reshape(*lead, *geometry.clip_shape)


def _cubes(clip: Bytes, geometry: ClipGeometry, layout: Layout) -> Bytes:
    """Return a view of an encrypted clip whose leading axes, one or three, number the cubes."""
    view: Bytes = clip if layout is Layout.CUBES else geometry.cubes_apart(clip, np)
    return view


def _index(places: Order, geometry: ClipGeometry, layout: Layout) -> tuple[npt.NDArray[np.intp], ...]:
    return (places,) if layout is Layout.CUBES else np.unravel_index(places, geometry.grid)


def _writer(clip: Bytes, geometry: ClipGeometry, layout: Layout) -> Callable[[Order, Bytes], None]:
    """Return a function that puts cubes, as the values of whole rows, at places of an encrypted clip."""
    cubes = _cubes(clip, geometry, layout)
    shape = cubes.shape[1:] if layout is Layout.CUBES else cubes.shape[3:]

    def put(places: Order, values: Bytes) -> None:
        cubes[_index(places, geometry, layout)] = values.reshape(len(places), *shape)

    return put


def _blocks(geometry: ClipGeometry, placement: Order) -> Iterator[tuple[tuple[slice, slice], Order]]:
    """Divide the rows of cubes of a clip into blocks; yield the slices of a block, and where its cubes go."""
    slabs, rows, columns = geometry.grid
    grid, size = placement.reshape(slabs, rows, columns), geometry.row_values
    row_step = min(rows, max(1, _BLOCK_BYTES // size))
    slab_step = max(1, _BLOCK_BYTES // (rows * size)) if row_step == rows else 1
    for slab in range(0, slabs, slab_step):
        for row in range(0, rows, row_step):
            block = slice(slab, slab + slab_step), slice(row, row + row_step)
            yield block, grid[block].reshape(-1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shuffle:
    """Shuffle the values of each row of cubes.

    Args:
        gather: index of the words of two rows, ``[row values]``.
        rows: buffer of rows, ``[row values]`` each.
        words, taken: buffers of the words of two rows, before and after.
        spare: buffer of half as many words.
    """

    gather: Order
    rows: Bytes
    words: Words
    taken: Words
    spare: Words

    @classmethod
    def of(cls, geometry: ClipGeometry, gather: Order) -> _Shuffle:
        """Return it with buffers for the blocks of a geometry."""
        size = geometry.row_values
        rows = min(geometry.cubes // geometry.grid[2], max(1, _BLOCK_BYTES // size))
        pairs = (rows + 1) // 2
        words, taken = (np.empty((pairs, 2, size // 2), np.uint16) for _ in range(2))
        return cls(
            gather=gather,
            rows=np.empty((rows, size), np.uint8),
            words=words,
            taken=taken,
            spare=np.empty((pairs, size // 2), np.uint16),
        )

    def __call__(self, values: Bytes) -> Bytes:
        """Return the rows of a block shuffled, ``[rows, row values]``; the buffer is used again by the next call.

        The second half of an odd number of rows begins with the last row of the first half, which is made twice.
        """
        size = self.rows.shape[1]
        count = values.size // size
        pairs = (count + 1) // 2
        rows, words, taken, spare = self.rows[:count], self.words[:pairs], self.taken[:pairs], self.spare[:pairs]
        np.copyto(rows.reshape(values.shape), values)
        first, second = rows[:pairs].view(np.uint16), rows[count - pairs :].view(np.uint16)
        _exchange(first, second, words[:, 0], words[:, 1], spare)
        # The index is valid; ``wrap`` only spares a check of each word, and a second buffer.
        np.take(words.reshape(pairs, size), self.gather, axis=-1, out=taken.reshape(pairs, size), mode="wrap")
        _exchange(taken[:, 0], taken[:, 1], first, second, spare)
        return rows


def _exchange(one: Words, two: Words, even: Words, odd: Words, spare: Words) -> None:
    """Put the low bytes of the words of ``one`` and ``two`` into ``even``, and their high bytes into ``odd``.

    In a word of the result, the byte of ``one`` is the low one. ``Orders.word_gather`` knows the machine's byte order.
    """
    np.multiply(two, _SHIFT, out=spare)
    np.bitwise_and(one, _LOW, out=even)
    np.bitwise_or(even, spare, out=even)
    np.right_shift(one, 8, out=spare)
    np.bitwise_and(two, _HIGH, out=odd)
    np.bitwise_or(odd, spare, out=odd)
