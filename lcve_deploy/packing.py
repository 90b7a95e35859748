"""Pack the clips of ``lcve-dct-1`` into few bytes, and back: bit for bit, with NumPy and zlib, and without a key.

A packed clip states how often each row and each column of its coefficients is not zero. Sorted by these counts, the
map of zeros compresses well; the values follow. The counts are checked against the map, so nothing of it is redundant.

Everything is bounded by the geometry before it is allocated, and the checksum is checked before anything is inflated.

Source: format, section "Packed clip".
"""

from __future__ import annotations

import math
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import COEFFICIENTS, STEP, Binding, coefficient_record
from lcve_deploy.errors import EncryptedClipError
from lcve_deploy.geometry import ClipGeometry

__all__ = [
    "DEFAULT_STEP",
    "MAX_INTEGER",
    "MAX_PAD",
    "MAX_STEP",
    "count_packed",
    "max_packed",
    "min_step",
    "pack",
    "random_records",
    "require_pad",
    "require_step",
    "unpack",
]

DEFAULT_STEP: Final = 16.0
"""About 42 dB PSNR, see ``docs/evidence/wire.md``."""
MAX_STEP: Final = 256.0
MAX_INTEGER: Final = 2048
"""Largest coefficient: float16 has every integer up to it."""
MAX_PAD: Final = 2**24
"""Largest size to a multiple of which a clip is padded."""

_MAGIC: Final = b"LDCT"
_HEADER: Final = struct.Struct("<4sIIfIIII")
_CHECKED: Final = 12
"""Bytes before those that the checksum covers."""
_PLANES: Final = 3
"""Bytes of a count."""
_ESCAPE: Final = -128
_MAX_SHORT: Final = 127
_SHORT: Final = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float16)
"""Value of each byte: NumPy converts integers to float16 slowly."""
_MAX_ESCAPES: Final = 258
"""Values outside -127..127 in a cube: more would have more energy than any clip."""

_LOUDEST: Final = 128
"""Largest coefficient of random ciphertext, in values of pixels."""

_MAX_UNPACKED: Final = 2**33
"""Maximum bytes of unpacked clips."""
_LEVEL: Final = 6
_RAW: Final = -15
_MEMORY: Final = 9
_DEFLATE_OVERHEAD: Final = 1024
_STRATEGIES: Final = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY)
"""For counts, map and values, as measured: smaller and faster than the default for all."""

Records = npt.NDArray[np.void]
Bytes = npt.NDArray[np.uint8]
Order = npt.NDArray[np.intp]


def min_step(geometry: ClipGeometry) -> float:
    """Return the smallest step: with it, no coefficient of a uint8 clip exceeds 2048."""
    return max(1.0, math.sqrt(geometry.values) / 16)


def require_step(step: float, geometry: ClipGeometry) -> None:
    """Refuse a step that is out of range.

    Raises:
        ValueError: it is too small or too large, or not a number.
    """
    smallest = min_step(geometry)
    if not smallest <= step <= MAX_STEP:
        raise ValueError(f"expected a step from {smallest:.4g} to {MAX_STEP:g} for {geometry}, received {step:g}")


def require_pad(pad: int, binding: Binding | None = None) -> None:
    """Refuse a padding that is out of range, or of clips that all have the same length.

    Args:
        pad: bytes of a clip are padded to a multiple of this number; 1 for no padding.
        binding: binding of the clips, if it is known.

    Raises:
        ValueError: the padding is out of range.
        EncryptedClipError: the clips have the scheme ``lcve-1``.
    """
    if not 1 <= pad <= MAX_PAD:
        raise ValueError(f"expected to pad to a multiple of 1 to {MAX_PAD} bytes, received {pad}")
    if pad > 1 and binding is not None and not binding.packed:
        raise EncryptedClipError(
            f"clips of the scheme {binding.scheme} all have the same length, received a padding of {pad}",
            hint="leave the padding out",
        )


def max_packed(geometry: ClipGeometry) -> int:
    """Return the maximum bytes of one packed clip, before padding."""
    counts = _PLANES * (geometry.cubes + geometry.values)
    stored = counts + _map_bytes(geometry.values, geometry) + _max_values(geometry)
    return _HEADER.size + stored + stored // 1000 + _DEFLATE_OVERHEAD


def pack(records: Records, geometry: ClipGeometry, *, pad: int = 1) -> bytes:
    """Pack clips, one after the other.

    Args:
        records: clips ``[clips]``.
        geometry: clip and cube size.
        pad: the bytes of every clip are padded to a multiple of this number, which hides how much is in it.

    Raises:
        ValueError: a clip has a step out of range, a coefficient that is not an integer from -2048 to 2048, or more
            large coefficients than any clip; or the padding is out of range.
    """
    require_pad(pad)
    return b"".join(_packed(record, geometry, pad) for record in records.reshape(-1))


def count_packed(data: bytes | memoryview, *, limit: int) -> int:
    """Return the number of packed clips, by their stated lengths; only ``unpack`` checks them.

    Raises:
        EncryptedClipError: there are none or more than the limit, or the data are not packed clips.
    """
    view, first, clips = memoryview(data), 0, 0
    while first < len(view) and clips <= limit:
        first += _size_at(view, first)
        clips += 1
    if not 1 <= clips <= limit:
        raise EncryptedClipError(f"expected 1 to {limit} packed clips, received {'more' if clips else 'none'}")
    return clips


def unpack(data: bytes | memoryview, geometry: ClipGeometry, *, clips: int) -> Records:
    """Unpack clips; the inverse of ``pack``.

    Args:
        data: packed clips, and nothing else.
        geometry: clip and cube size.
        clips: number of clips that are expected.

    Returns:
        Records ``[clips]``.

    Raises:
        EncryptedClipError: the data are not this number of packed clips of the geometry, or need more than 8 GiB.
    """
    if clips * coefficient_record(geometry).itemsize > _MAX_UNPACKED:
        raise EncryptedClipError(f"expected clips of at most {_MAX_UNPACKED} bytes, received {clips} of {geometry}")
    parts = list(_split(memoryview(data), geometry, clips))
    records = np.zeros(clips, coefficient_record(geometry))
    for part, record in zip(parts, records, strict=True):
        record[STEP] = part.step
        _fill(record[COEFFICIENTS], part, geometry)
    return records


def random_records(geometry: ClipGeometry, clips: int) -> Records:
    """Return random ciphertext ``[clips]``, of about the energy of random uint8 values."""
    records = np.empty(clips, coefficient_record(geometry))
    step = math.ceil(max(4.0, min_step(geometry)))
    half = max(2, _LOUDEST // step)
    random = np.frombuffer(secrets.token_bytes(clips * geometry.cubes * geometry.values), np.uint8)
    records[STEP] = step
    records[COEFFICIENTS] = (random % (2 * half) - float(half)).reshape(clips, geometry.cubes, geometry.values)
    return records


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The streams of one packed clip, still deflated."""

    step: float
    escapes: int
    counts: memoryview
    map: memoryview
    values: memoryview

    @classmethod
    def read(cls, data: memoryview, geometry: ClipGeometry) -> Self:
        """Check checksum, header and padding of one packed clip."""
        _, _, checksum, step, escapes, *sizes = _HEADER.unpack_from(data)
        if zlib.crc32(data[_CHECKED:]) != checksum:
            raise EncryptedClipError("the packed clip is damaged: its checksum differs")
        try:
            require_step(step, geometry)
        except ValueError as error:
            raise EncryptedClipError(f"the packed clip is invalid: {error}") from None
        ends = [_HEADER.size + sum(sizes[:i]) for i in range(4)]
        if ends[-1] > len(data) or any(data[ends[-1] :]):
            raise EncryptedClipError(
                f"expected streams of {sum(sizes)} bytes and then zeros in a packed clip of {len(data)} bytes"
            )
        counts, zeros, values = (data[first:last] for first, last in pairwise(ends))
        return cls(step=step, escapes=escapes, counts=counts, map=zeros, values=values)


def _split(data: memoryview, geometry: ClipGeometry, clips: int) -> Iterator[_Part]:
    first = 0
    for _ in range(clips):
        size = _size_at(data, first)
        yield _Part.read(data[first : first + size], geometry)
        first += size
    if first != len(data):
        raise EncryptedClipError(f"expected {clips} packed clips in {first} bytes, received {len(data)} bytes")


def _size_at(data: memoryview, first: int) -> int:
    """Return the stated length of the packed clip that begins at a byte."""
    rest = len(data) - first
    magic, size = _HEADER.unpack_from(data, first)[:2] if rest >= _HEADER.size else (b"", 0)
    if magic != _MAGIC or not _HEADER.size <= size <= rest:
        raise EncryptedClipError(
            f"expected packed clips; at byte {first} of {len(data)} there is none, or one that is cut off"
        )
    return int(size)


# Packing


def _packed(record: np.void, geometry: ClipGeometry, pad: int) -> bytes:
    step, coefficients = float(record[STEP]), np.ascontiguousarray(record[COEFFICIENTS])
    require_step(step, geometry)
    marks = (coefficients.view(np.uint16) & 0x7FFF) != 0
    columns, rows = np.count_nonzero(marks, axis=0), np.count_nonzero(marks, axis=1)
    taken, placed = _orders(columns, rows)
    turned = np.ascontiguousarray(marks[placed].take(taken, axis=1).T)
    found = _rows_found(np.flatnonzero(turned), columns[taken], geometry.cubes)
    nonzero = coefficients.reshape(-1).take(_places(found, taken, placed, columns, geometry))
    values, escapes = _coded(nonzero, geometry)
    contents = (_planes(columns, rows), np.packbits(turned, axis=1), values)
    streams = [_deflated(content.tobytes(), kind) for content, kind in zip(contents, _STRATEGIES, strict=True)]
    size = _HEADER.size + sum(map(len, streams))
    padded = -(-size // pad) * pad
    head = _HEADER.pack(_MAGIC, padded, 0, step, escapes, *map(len, streams))
    body = b"".join((head[_CHECKED:], *streams, bytes(padded - size)))
    return head[: _CHECKED - 4] + zlib.crc32(body).to_bytes(4, "little") + body


def _coded(nonzero: npt.NDArray[np.float16], geometry: ClipGeometry) -> tuple[Bytes, int]:
    """Return the values as bytes, with the large ones after them, and the number of large ones."""
    exact = nonzero.astype(np.float32)
    if not (np.abs(exact) <= MAX_INTEGER).all() or (exact != np.trunc(exact)).any():
        raise ValueError(f"expected integers from {-MAX_INTEGER} to {MAX_INTEGER} as coefficients")
    integers = exact.astype(np.int16)
    large = np.abs(integers) > _MAX_SHORT
    escaped = integers[large]
    if len(escaped) > _most_escapes(geometry):
        raise ValueError(f"expected at most {_most_escapes(geometry)} large coefficients, received {len(escaped)}")
    short = np.where(large, _ESCAPE, integers).astype(np.int8).view(np.uint8)
    return np.concatenate([short, escaped.astype("<i2").view(np.uint8).reshape(-1, 2).T.reshape(-1)]), len(escaped)


def _planes(columns: Order, rows: Order) -> Bytes:
    """Return the counts as bytes: the low bytes of all, then the middle ones, then the high ones."""
    counts = np.concatenate([columns, rows]).astype("<u4")
    return np.ascontiguousarray(counts.view(np.uint8).reshape(-1, 4).T[:_PLANES])


def _deflated(content: bytes, strategy: int) -> bytes:
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW, _MEMORY, strategy)
    return stream.compress(content) + stream.flush()


# Unpacking


def _fill(target: npt.NDArray[np.float16], part: _Part, geometry: ClipGeometry) -> None:
    """Write the coefficients of a part into an array of zeros, ``[N, L]``."""
    columns, rows = _counts(part.counts, geometry)
    nonzero = int(columns.sum())
    if part.escapes > min(nonzero, _most_escapes(geometry)):
        raise EncryptedClipError(f"a packed clip has at most {_most_escapes(geometry)} large coefficients")
    taken, placed = _orders(columns, rows)
    packed = _inflated(part.map, _map_bytes(len(taken), geometry), "map")
    bits = np.unpackbits(packed.reshape(len(taken), _map_bytes(1, geometry)), axis=1)
    found = _matched(bits, columns[taken], rows[placed])
    values = _decoded(_inflated(part.values, nonzero + 2 * part.escapes, "values"), nonzero, part.escapes)
    target.reshape(-1).put(_places(found, taken, placed, columns, geometry), values)


def _counts(stream: memoryview, geometry: ClipGeometry) -> tuple[Order, Order]:
    total = geometry.cubes + geometry.values
    planes = _inflated(stream, _PLANES * total, "counts").reshape(_PLANES, total).astype(np.intp)
    counts = planes[0] + (planes[1] << 8) + (planes[2] << 16)
    columns, rows = counts[: geometry.values], counts[geometry.values :]
    if columns.max() > geometry.cubes or rows.max() > geometry.values or columns.sum() != rows.sum():
        raise EncryptedClipError("the counts of a packed clip contradict each other")
    return columns, rows


def _matched(bits: Bytes, columns: Order, rows: Order) -> Order:
    """Return the row in the map of each coefficient, one column after the other; refuse counts that are not its own.

    If as many coefficients as each column states are in its rows, then none is in another column or beyond the rows.
    """
    marks = np.flatnonzero(bits.view(np.bool_))
    if len(marks) == columns.sum():
        found = _rows_found(marks, columns, bits.shape[1])
        inside = found.min(initial=0) >= 0 and found.max(initial=0) < len(rows)
        if inside and np.array_equal(bits.sum(axis=0, dtype=np.uint32)[: len(rows)], rows):
            return found
    raise EncryptedClipError("the counts of a packed clip do not match its map")


def _decoded(content: Bytes, nonzero: int, escapes: int) -> npt.NDArray[np.float16]:
    short, planes = content[:nonzero], content[nonzero:].reshape(2, escapes)
    values = _SHORT.take(short)
    large = np.flatnonzero(short == _ESCAPE & 0xFF)
    escaped = np.ascontiguousarray(planes.T).view("<i2").reshape(-1)
    sizes = np.abs(escaped.astype(np.int32))
    if len(large) != escapes or not short.all() or not ((sizes > _MAX_SHORT) & (sizes <= MAX_INTEGER)).all():
        raise EncryptedClipError("the values of a packed clip are not those of its map")
    values[large] = escaped
    return values


def _inflated(stream: memoryview, size: int, what: str) -> Bytes:
    """Inflate a stream to exactly ``size`` bytes; no more are allocated."""
    inflater = zlib.decompressobj(_RAW)
    try:
        content = inflater.decompress(stream, size) if size else b""
        more = inflater.decompress(inflater.unconsumed_tail if size else stream, 1)
    except zlib.error as error:
        raise EncryptedClipError(f"the {what} of a packed clip cannot be inflated: {error}") from None
    if len(content) != size or more or not inflater.eof or inflater.unused_data:
        raise EncryptedClipError(f"expected {size} bytes in the {what} of a packed clip, received others")
    return np.frombuffer(content, np.uint8)


# Sizes and orders


def _orders(columns: Order, rows: Order) -> tuple[Order, Order]:
    """Return columns that are not all zero, and rows, both from the most coefficients to the fewest; ties by number."""
    taken, placed = np.argsort(-columns, kind="stable"), np.argsort(-rows, kind="stable")
    return taken[: np.count_nonzero(columns)], placed


def _rows_found(marks: Order, columns: Order, width: int) -> Order:
    """Return the row of each mark in a map of columns, one after the other; marks are sorted, and changed."""
    marks -= np.repeat(np.arange(len(columns)) * width, columns)
    return marks


def _places(found: Order, taken: Order, placed: Order, columns: Order, geometry: ClipGeometry) -> Order:
    """Return the place in a clip, flat, of each coefficient of a map, by its row there."""
    places = (placed * geometry.values).take(found)
    places += np.repeat(taken, columns[taken])
    return places


def _map_bytes(columns: int, geometry: ClipGeometry) -> int:
    return columns * -(-geometry.cubes // 8)


def _most_escapes(geometry: ClipGeometry) -> int:
    return geometry.cubes * min(geometry.values, _MAX_ESCAPES)


def _max_values(geometry: ClipGeometry) -> int:
    return geometry.cubes * geometry.values + 2 * _most_escapes(geometry)
