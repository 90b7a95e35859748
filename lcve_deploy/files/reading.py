"""What must hold of any file from outside before a reader looks into it, and how much of it is read.

A pipe or a device could keep a reader waiting for ever, so only regular files are opened. A few bytes
can claim sizes that no memory holds, so what a header says is compared with the file and with the
limits that are named here. They are well above every model that is known.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Collection
from tokenize import TokenError
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import LcveError

__all__ = [
    "MAX_AXES",
    "MAX_HEADER_BYTES",
    "MAX_INT",
    "MAX_JSON_BYTES",
    "MAX_JSON_DEPTH",
    "check_safetensors",
    "map_array",
    "parse_json",
    "read_bounded",
    "require_file",
]

MAX_JSON_BYTES: Final = 8 * 2**20
"""Bytes of a JSON file."""
MAX_JSON_DEPTH: Final = 64
"""Objects and lists of JSON within each other."""
MAX_INT: Final = 2**63 - 1
"""Largest whole number in JSON."""
MAX_HEADER_BYTES: Final = 8 * 2**20
"""Bytes of a safetensors header."""
MAX_AXES: Final = 16
"""Axes of a tensor or array."""

_LENGTH_BYTES: Final = 8
_ARRAY_HEADER: Final = 1024
_BROKEN_ARRAYS: Final = (
    *(ValueError, TypeError, OverflowError, EOFError),
    *(SyntaxError, TokenError, RecursionError, MemoryError),  # a header that is cut off, or nested without end
)
_KINDS: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

Path = str | os.PathLike[str]


def require_file(path: Path, what: str, error: type[LcveError]) -> int:
    """Check that a path is a regular file, or a link to one.

    Args:
        path: to be opened.
        what: expected there, such as "a key file".
        error: raised for anything else.

    Returns:
        Its size in bytes.

    Raises:
        LcveError: of the given class: a folder, pipe, socket or device.
        OSError: there is nothing, or it cannot be asked.
    """
    status = os.stat(path)  # noqa: PTH116 (paths may be text)
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise error(f"expected a file, received {kind}, which is not {what}: {path}")
    return status.st_size


def read_bounded(path: Path, what: str, error: type[LcveError], *, largest: int = MAX_JSON_BYTES) -> bytes:
    """The bytes of a small file.

    Raises:
        LcveError: of the given class: no regular file, or one of more than ``largest`` bytes.
        OSError: there is nothing, or it cannot be read.
    """
    size = require_file(path, what, error)
    with open(path, "rb") as file:
        data = b"" if size > largest else file.read(largest + 1)
    if max(size, len(data)) > largest:
        raise error(f"expected {what} of at most {largest} bytes, received {max(size, len(data))}: {path}")
    return data


def parse_json(data: bytes) -> Any:
    """A JSON value whose text can be shown and whose numbers can be worked with.

    A whole number beyond ``MAX_INT`` becomes a float, and so no whole number, or infinity.

    Raises:
        ValueError: not JSON, nested deeper than ``MAX_JSON_DEPTH``, or text that is not Unicode (half a
            surrogate pair).
    """
    try:
        value = json.loads(data, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}") from None
    except UnicodeDecodeError:  # which would quote a byte, and the file may be a key
        raise ValueError("no text in UTF-8") from None
    _check_depth(value)
    json.dumps(value, ensure_ascii=False).encode()  # its UnicodeEncodeError is a ValueError
    return value


def _whole(digits: str) -> int | float:
    short = len(digits) <= len(str(-MAX_INT))
    return int(digits) if short and abs(int(digits)) <= MAX_INT else float(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH + 1):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _members(outer)]
        if not level:
            return
    raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}")


def _members(outer: dict[str, Any] | list[Any]) -> Collection[Any]:
    return outer.values() if isinstance(outer, dict) else outer


def check_safetensors(path: Path, what: str, error: type[LcveError], *, hint: str = "") -> None:
    """Check the header of a safetensors file as far as its library does not.

    What remains to the library: that tensors lie in the file without gaps, and have the bytes that
    dtype and shape say.

    Args:
        path: of the file.
        what: expected there, such as "an encrypted clip".
        error: raised if the file is invalid.
        hint: of that error.

    Raises:
        LcveError: of the given class: no regular file, a header that is too large or no JSON, a
            tensor that is not an object, or with a shape that no array can have.
        OSError: there is nothing, or it cannot be read.
    """
    size = require_file(path, what, error)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        largest = min(MAX_HEADER_BYTES, max(size - _LENGTH_BYTES, 0))
        data = file.read(length) if length <= largest else b""
    try:
        if length > largest:
            raise ValueError(f"a header of {length} bytes, expected at most {largest}")
        _check_tensors(parse_json(data))
    except ValueError as reason:
        raise error(f"not {what}, or a damaged one: {path} ({reason})", hint=hint) from None


def _check_tensors(header: Any) -> None:
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not _is_shape(shape):
            raise ValueError(f"{name[:80]!r} has no shape of up to {MAX_AXES} sizes that an array can have")


def _is_shape(shape: Collection[Any]) -> bool:
    """Whether an array can have this shape; sizes next to a zero count, as NumPy counts them."""
    whole = len(shape) <= MAX_AXES and all(type(size) is int and size >= 0 for size in shape)
    return whole and math.prod(size for size in shape if size) * _LENGTH_BYTES <= MAX_INT


def map_array(path: Path, what: str, error: type[LcveError]) -> npt.NDArray[Any]:
    """The array of a ``.npy`` file, read-only and not copied: its bytes are read when they are used.

    Raises:
        LcveError: of the given class: no regular file, no array of numbers, an empty one, or one
            that claims more values than the file has.
        OSError: there is nothing, or it cannot be read.
    """
    size = require_file(path, what, error)
    try:
        with open(path, "rb") as file:
            shape, by_columns, dtype = _array_header(file)
            start = file.tell()
        if dtype.kind not in "biuf" or not _is_shape(shape):
            raise ValueError(f"{dtype} of shape {str(shape)[:80]} is no array of numbers")
        needed = math.prod(shape) * dtype.itemsize
        if not 0 < needed <= size - start:
            raise ValueError(f"expected 1 to {size - start} bytes of values, as the file has, received {needed}")
    except _BROKEN_ARRAYS as reason:
        said = next(iter(str(reason).splitlines()), "damaged")[:200]
        raise error(f"{path} cannot be read as a NumPy array: {said}") from None
    return np.memmap(path, dtype, "r", start, shape, "F" if by_columns else "C")


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype, as NumPy reads them."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_ARRAY_HEADER)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=_ARRAY_HEADER)
    raise ValueError(f"version {version}, expected 1.0 or 2.0")
