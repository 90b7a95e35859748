"""Read the EXIF orientation of JPEG, PNG, WebP and TIFF files from their bytes.

Decoders differ in the formats for which they report it, so they are not used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["exif_orientation", "has_jpeg_in_tiff", "has_more_pages", "png_chunks", "webp_chunks"]

_COMPRESSION: Final = 259
_ORIENTATION: Final = 274
_SHORT: Final = 3
_ENTRY: Final = 12
_MAX_ENTRIES: Final = 4096
_MAX_PARTS: Final = 100_000
"""Maximum segments or chunks of a file that are read."""
_EXIF_HEADER: Final = b"Exif\0\0"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1


def exif_orientation(data: bytes) -> int:
    """Return the EXIF orientation of a picture, 1..8; 1 if it has none or an invalid one.

    Args:
        data: content of the file.
    """
    found = (_tiff_orientation(part.removeprefix(_EXIF_HEADER)) for part in _exif_parts(data))
    return next((number for number in found if number), 1)


def has_more_pages(data: bytes) -> bool:
    """Return whether a TIFF file contains more than one picture."""
    order = _byte_order(data)
    if not order:
        return False
    first = _number(data, order, 4, 4)
    entries = _number(data, order, first, 2)
    return _number(data, order, first + 2 + entries * _ENTRY, 4) != 0


def has_jpeg_in_tiff(data: bytes) -> bool:
    """Return whether the first picture of a TIFF file is compressed as JPEG (compression 6 or 7)."""
    return _short(data, _COMPRESSION) in (6, 7)


def _exif_parts(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\xff\xd8"):
        return _jpeg_exif(data)
    if data.startswith(b"\x89PNG"):
        return (content for name, content in png_chunks(data) if name == b"eXIf")
    if data.startswith(b"RIFF"):
        return (content for name, content in webp_chunks(data) if name == b"EXIF")
    return iter([data])


def _jpeg_exif(data: bytes) -> Iterator[bytes]:
    """Yield the contents of the APP1 segments with EXIF that come before the picture data."""
    offset = 2
    for _ in range(_MAX_PARTS):
        while data[offset : offset + 2] == b"\xff\xff":  # padding
            offset += 1
        if len(data) < offset + 4 or data[offset] != 0xFF or data[offset + 1] in (_SCAN, _END):
            return
        marker = data[offset + 1]
        length = 0 if marker in _STANDALONE else int.from_bytes(data[offset + 2 : offset + 4], "big")
        if marker == _APP1 and data[offset + 4 : offset + 10] == _EXIF_HEADER:
            yield data[offset + 4 : offset + 2 + length]
        offset += 2 + length


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk of a PNG; the content of pixel data is left empty."""
    offset = 8
    for _ in range(_MAX_PARTS):
        if len(data) < offset + 8:
            return
        length, name = struct.unpack_from(">I4s", data, offset)
        yield name, b"" if name == b"IDAT" else data[offset + 8 : offset + 8 + length]
        offset += 12 + length


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each chunk of a WebP; the content of pixel data is left empty."""
    offset = 12
    for _ in range(_MAX_PARTS):
        if len(data) < offset + 8:
            return
        name, length = struct.unpack_from("<4sI", data, offset)
        yield name, b"" if name in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH") else data[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2


def _tiff_orientation(data: bytes) -> int:
    """Return the orientation in the first directory of a TIFF, 1..8; 0 if there is none."""
    number = _short(data, _ORIENTATION)
    return number if 1 <= number <= 8 else 0


def _short(data: bytes, tag: int) -> int:
    """Return the value of a tag of type SHORT in the first directory of a TIFF; 0 if there is none."""
    order = _byte_order(data)
    if not order:
        return 0
    first = _number(data, order, 4, 4)
    for index in range(min(_number(data, order, first, 2), _MAX_ENTRIES)):
        entry = first + 2 + index * _ENTRY
        if _number(data, order, entry, 2) == tag and _number(data, order, entry + 2, 2) == _SHORT:
            return _number(data, order, entry + 8, 2)
    return 0


def _byte_order(data: bytes) -> str:
    """Return ``little`` or ``big``; empty if the data is not a TIFF."""
    return {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4], "")


def _number(data: bytes, order: str, offset: int, size: int) -> int:
    """Return the unsigned integer of ``size`` bytes at ``offset``; 0 beyond the end."""
    part = data[offset : offset + size]
    if len(part) < size:
        return 0
    return int.from_bytes(part, "little" if order == "little" else "big")
