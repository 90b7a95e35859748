"""The EXIF orientation of a picture file, read from its bytes: JPEG, PNG, WebP and TIFF can have one.

Decoders do not agree on which of them they read it from, so none is asked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

__all__ = ["chunks_of_png", "chunks_of_webp", "exif_orientation", "has_jpeg_in_tiff", "has_more_pages"]

_COMPRESSION: Final = 259
_ORIENTATION: Final = 274
_SHORT: Final = 3
_ENTRY: Final = 12
_MAX_ENTRIES: Final = 4096
_MAX_PARTS: Final = 100_000
"""Parts of a file that are looked at."""
_INTRODUCTION: Final = b"Exif\0\0"
_STANDALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
"""JPEG markers without a length."""
_SCAN, _END, _APP1 = 0xDA, 0xD9, 0xE1


def exif_orientation(data: bytes) -> int:
    """1 to 8; 1 where the file does not say, or says something else.

    Args:
        data: the whole file.
    """
    found = (_of_tiff(part.removeprefix(_INTRODUCTION)) for part in _exif_parts(data))
    return next((number for number in found if number), 1)


def has_more_pages(data: bytes) -> bool:
    """Whether a TIFF file holds more than one picture."""
    order = _byte_order(data)
    if not order:
        return False
    first = _number(data, order, 4, 4)
    entries = _number(data, order, first, 2)
    return _number(data, order, first + 2 + entries * _ENTRY, 4) != 0


def has_jpeg_in_tiff(data: bytes) -> bool:
    """Whether the first picture of a TIFF file is compressed as JPEG, in the old way or the new one."""
    return _short(data, _COMPRESSION) in (6, 7)


def _exif_parts(data: bytes) -> Iterator[bytes]:
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith(b"\x89PNG"):
        return (content for name, content in chunks_of_png(data) if name == b"eXIf")
    if data.startswith(b"RIFF"):
        return (content for name, content in chunks_of_webp(data) if name == b"EXIF")
    return iter([data])


def _of_jpeg(data: bytes) -> Iterator[bytes]:
    """What stands in the APP1 segments for EXIF, before the picture itself."""
    place = 2
    for _ in range(_MAX_PARTS):
        while data[place : place + 2] == b"\xff\xff":  # filling
            place += 1
        if len(data) < place + 4 or data[place] != 0xFF or data[place + 1] in (_SCAN, _END):
            return
        marker = data[place + 1]
        length = 0 if marker in _STANDALONE else int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == _APP1 and data[place + 4 : place + 10] == _INTRODUCTION:
            yield data[place + 4 : place + 2 + length]
        place += 2 + length


def chunks_of_png(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of a PNG's chunks; pixels are named without their content."""
    place = 8
    for _ in range(_MAX_PARTS):
        if len(data) < place + 8:
            return
        length, name = struct.unpack_from(">I4s", data, place)
        yield name, b"" if name == b"IDAT" else data[place + 8 : place + 8 + length]
        place += 12 + length


def chunks_of_webp(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names and contents of a WebP's chunks; pixels are named without their content."""
    place = 12
    for _ in range(_MAX_PARTS):
        if len(data) < place + 8:
            return
        name, length = struct.unpack_from("<4sI", data, place)
        yield name, b"" if name in (b"VP8 ", b"VP8L", b"ANMF", b"ALPH") else data[place + 8 : place + 8 + length]
        place += 8 + length + length % 2


def _of_tiff(data: bytes) -> int:
    """The orientation in the first directory; 0 if there is none."""
    number = _short(data, _ORIENTATION)
    return number if 1 <= number <= 8 else 0


def _short(data: bytes, tag: int) -> int:
    """A tag's short number in the first directory of a TIFF; 0 if there is none."""
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
    """``little`` or ``big``; empty for what is no TIFF."""
    return {b"II*\0": "little", b"MM\0*": "big"}.get(data[:4], "")


def _number(data: bytes, order: str, place: int, size: int) -> int:
    """0 beyond the end."""
    part = data[place : place + size]
    if len(part) < size:
        return 0
    return int.from_bytes(part, "little" if order == "little" else "big")
