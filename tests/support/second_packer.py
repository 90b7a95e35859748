"""The scheme ``lcve-dct-1`` a second time, written from section 11 of docs/reference/format.md, and its vectors.

Nothing of ``lcve_deploy`` is imported here. Packed clips are written as stored blocks of DEFLATE, so that the vectors
do not depend on a version of zlib.

    python -m tests.support.second_packer
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from tests.support.second_client import (
    SALT,
    SECRET,
    SMALL,
    clip_file,
    counts,
    digest,
    draws,
    kdf,
    order,
    pattern_clip,
    place,
    sizes,
)

__all__ = ["VECTORS", "text", "unpacked"]

VECTORS = Path(__file__).parents[2] / "docs/reference/dct-vectors.json"
GEOMETRY = "8x32x32x3/2x8x8"
STEP = 16.0
HEADER = "<4sIIfIIII"
MIN_DISTANCE = 1e-3
"""From a value to where it would be rounded to another integer: float32 must not matter."""

Matrix = list[list[int]]


def signs(geometry: str) -> list[int]:
    size = counts(geometry)[1]
    stream = draws(kdf(SECRET, f"lcve-dct-1/coefficient-sign/{geometry}", 32, SALT))
    data = b"".join(struct.pack("<I", next(stream)) for _ in range(-(-size // 32)))
    return [1 - 2 * (data[i // 8] >> i % 8 & 1) for i in range(size)]


def orders(geometry: str) -> tuple[list[int], list[int]]:
    cubes, size = counts(geometry)
    k1 = order(f"lcve-dct-1/cube-order/{geometry}", cubes)[0]
    return k1, order(f"lcve-dct-1/coefficient-order/{geometry}", size)[0]


def basis(size: int) -> list[list[float]]:
    scale = [math.sqrt((1 if k == 0 else 2) / size) for k in range(size)]
    return [[scale[k] * math.cos(math.pi * (2 * i + 1) * k / (2 * size)) for i in range(size)] for k in range(size)]


def quantised(clip: bytes, geometry: str) -> Matrix:
    """Plain coefficients as integers, ``[N, L]``."""
    _, _, _, channels, t, h, w = sizes(geometry)
    colours = basis(3) if channels == 3 else [[float(i == j) for j in range(channels)] for i in range(channels)]
    axes = [basis(t), basis(h), basis(w), colours]
    cubes, size = counts(geometry)
    result = []
    for cube in range(cubes):
        values = [clip[place(geometry, cube, j)] - 128.0 for j in range(size)]
        for axis, matrix in enumerate(axes):
            values = along(values, [t, h, w, channels], axis, matrix)
        result.append([rounded(value) for value in values])
    return result


def along(values: list[float], shape: list[int], axis: int, matrix: list[list[float]]) -> list[float]:
    inner, size = math.prod(shape[axis + 1 :]), shape[axis]
    result = [0.0] * len(values)
    for at in range(len(values)):
        outer, rest = divmod(at, size * inner)
        k, offset = divmod(rest, inner)
        result[at] = sum(matrix[k][i] * values[(outer * size + i) * inner + offset] for i in range(size))
    return result


def rounded(value: float) -> int:
    exact = abs(value) / STEP + 0.4
    if min(exact % 1, 1 - exact % 1) < MIN_DISTANCE:
        raise ValueError(f"{value} is too near to where it would be rounded to another integer")
    return int(math.copysign(math.floor(exact), value))


def encrypted(plain: Matrix, geometry: str) -> Matrix:
    (k1, k2), sign = orders(geometry), signs(geometry)
    return [[sign[j] * plain[i][j] for j in k2] for i in k1]


def stored(content: bytes) -> bytes:
    """One stored block of DEFLATE, the last one."""
    return b"\x01" + struct.pack("<HH", len(content), len(content) ^ 0xFFFF) + content


def packed(rows: Matrix, pad: int = 1) -> bytes:
    width, height = len(rows[0]), len(rows)
    in_columns = [sum(row[j] != 0 for row in rows) for j in range(width)]
    in_rows = [sum(value != 0 for value in row) for row in rows]
    columns = sorted((j for j in range(width) if in_columns[j]), key=lambda j: (-in_columns[j], j))
    places = sorted(range(height), key=lambda i: (-in_rows[i], i))
    totals = in_columns + in_rows
    planes = b"".join(bytes(total >> 8 * plane & 255 for total in totals) for plane in range(3))
    zeros, values = b"", []
    for j in columns:
        bits = "".join("1" if rows[i][j] else "0" for i in places)
        zeros += int(bits.ljust(-(-height // 8) * 8, "0"), 2).to_bytes(-(-height // 8), "big")
        values += [rows[i][j] for i in places if rows[i][j]]
    large = [value for value in values if abs(value) > 127]
    short = bytes((-128 if abs(value) > 127 else value) & 255 for value in values)
    escapes = bytes(value & 255 for value in large) + bytes(value >> 8 & 255 for value in large)
    streams = [stored(content) for content in (planes, zeros, short + escapes)]
    size = struct.calcsize(HEADER) + sum(map(len, streams))
    total = -(-size // pad) * pad
    body = struct.pack("<fIIII", STEP, len(large), *map(len, streams)) + b"".join(streams) + bytes(total - size)
    return b"LDCT" + struct.pack("<II", total, zlib.crc32(body)) + body


def unpacked(data: bytes, geometry: str) -> tuple[float, Matrix]:
    """Step and coefficients of one packed clip, however it is deflated."""
    height, width = counts(geometry)
    magic, size, checksum, step, escapes, *lengths = struct.unpack_from(HEADER, data)
    if magic != b"LDCT" or size != len(data) or zlib.crc32(data[12:]) != checksum:
        raise ValueError("not one packed clip")
    contents, first = [], struct.calcsize(HEADER)
    for length in lengths:
        contents.append(zlib.decompress(data[first : first + length], wbits=-15))
        first += length
    planes, zeros, values = contents
    total = height + width
    totals = [planes[i] + (planes[total + i] << 8) + (planes[2 * total + i] << 16) for i in range(total)]
    columns = sorted((j for j in range(width) if totals[j]), key=lambda j: (-totals[j], j))
    places = sorted(range(height), key=lambda i: (-totals[width + i], i))
    nonzero, row_bytes = sum(totals[:width]), -(-height // 8)
    low, high = values[nonzero : nonzero + escapes], values[nonzero + escapes :]
    large = iter(struct.unpack("<h", bytes(pair))[0] for pair in zip(low, high, strict=True))
    short = iter(values[:nonzero])
    rows = [[0] * width for _ in range(height)]
    for number, j in enumerate(columns):
        bits = zeros[number * row_bytes : (number + 1) * row_bytes]
        for at, i in enumerate(places):
            if bits[at // 8] >> 7 - at % 8 & 1:
                value = next(short)
                rows[i][j] = next(large) if value == 128 else value - 256 * (value > 127)
    return step, rows


def vectors() -> dict[str, Any]:
    key_id = kdf(SECRET, "lcve-1/key-id", 16).hex()
    k1, k2 = orders(GEOMETRY)
    k3 = order("lcve-dct-1/label-order/400", 400)[0]
    sign = signs(GEOMETRY)
    plain = quantised(pattern_clip(SMALL), SMALL)
    rows = encrypted(plain, SMALL)
    rows[3][5], rows[7][2], rows[11][11] = 128, -129, 2048
    data = packed(rows)
    metadata = {
        "scheme": "lcve-dct-1",
        "key_id": key_id,
        "salt": SALT.hex(),
        "geometry": SMALL,
        "layout": "cubes",
        "views": "1x1",
    }
    return {
        "about": "Vectors of docs/reference/format.md, section 11. Written by tests/support/second_packer.py.",
        "scheme": "lcve-dct-1",
        "secret": SECRET.hex(),
        "salt": SALT.hex(),
        "orders": {
            "geometry": GEOMETRY,
            "classes": 400,
            "K1": digest(k1),
            "K2": digest(k2),
            "K3": digest(k3),
            "signs": {"begins": sign[:12], "sha256": hashlib.sha256(struct.pack(f"{len(sign)}b", *sign)).hexdigest()},
        },
        "clip": {
            "geometry": SMALL,
            "step": STEP,
            "plain_hex": pattern_clip(SMALL).hex(),
            "coefficients": plain,
            "encrypted": encrypted(plain, SMALL),
        },
        "packed": {
            "geometry": SMALL,
            "step": STEP,
            "encrypted": rows,
            "packed_hex": data.hex(),
            "padded_hex": packed(rows, pad=512).hex(),
        },
        "clip_file": {"views": "1x1", "file_hex": clip_file(data, [len(data)], metadata).hex()},
    }


def text() -> str:
    return json.dumps(vectors(), indent=1) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(text(), encoding="utf-8")
