"""Checks that every untrusted file passes before it is parsed, and limits on how much of it is read.

Only regular files are opened: reading a pipe or a device could block forever. A few bytes can claim
sizes beyond any memory, so sizes in a header are compared with the file and with the limits below.
All limits are well above the needs of every known model.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Collection
from io import BufferedReader
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
    "check_safetensors_bytes",
    "map_array",
    "open_file",
    "parse_json",
    "read_bounded",
    "require_file",
]

MAX_JSON_BYTES: Final = 8 * 2**20
"""Maximum size of a JSON file, bytes."""
MAX_JSON_DEPTH: Final = 64
"""Maximum nesting depth of objects and lists in JSON."""
MAX_INT: Final = 2**63 - 1
"""Largest integer in JSON."""
MAX_HEADER_BYTES: Final = 8 * 2**20
"""Maximum size of a safetensors header, bytes."""
MAX_AXES: Final = 16
"""Maximum number of axes of a tensor or array."""

_LENGTH_BYTES: Final = 8
_ARRAY_HEADER: Final = 1024
_BROKEN_ARRAYS: Final = (
    *(ValueError, TypeError, OverflowError, EOFError),
    *(SyntaxError, TokenError, RecursionError, MemoryError),  # truncated or deeply nested headers
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
        path: path of the file.
        what: description of the expected file for the message, such as "a key file".
        error: class of the error to raise.

    Returns:
        Size of the file in bytes.

    Raises:
        LcveError: of the given class: the path is a folder, pipe, socket or device.
        OSError: the path does not exist, or its status cannot be read.
    """
    return _require_regular(os.stat(path), path, what, error)  # noqa: PTH116 (paths may be text)


def open_file(path: Path, what: str, error: type[LcveError]) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    A pipe is refused even if it takes the place of a file after the check: opening it does not block.

    Raises:
        LcveError: of the given class: the path is a folder, pipe, socket or device.
        OSError: the path does not exist, or cannot be read.
    """
    require_file(path, what, error)  # opening some devices has effects
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _require_regular(os.fstat(descriptor), path, what, error)
    except LcveError:
        os.close(descriptor)
        raise
    return open(descriptor, "rb")


def _require_regular(status: os.stat_result, path: Path, what: str, error: type[LcveError]) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise error(f"expected a file, received {kind}, which is not {what}: {path}")
    return status.st_size


def read_bounded(path: Path, what: str, error: type[LcveError], *, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Read a small file.

    Raises:
        LcveError: of the given class: not a regular file, or larger than ``max_bytes``.
        OSError: the file does not exist, or cannot be read.
    """
    with open_file(path, what, error) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > max_bytes else file.read(max_bytes + 1)
    if max(size, len(data)) > max_bytes:
        raise error(f"expected {what} of at most {max_bytes} bytes, received {max(size, len(data))}: {path}")
    return data


def parse_json(data: bytes) -> Any:
    """Parse JSON whose text can be encoded and whose numbers fit standard types.

    An integer beyond ``MAX_INT`` is returned as a float, which may be infinity.

    Raises:
        ValueError: not JSON, nested deeper than ``MAX_JSON_DEPTH``, or text with a lone surrogate.
    """
    try:
        value = json.loads(data, parse_int=_parse_int)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH}") from None
    except UnicodeDecodeError:  # its message quotes a byte, and the file may be a key
        raise ValueError("not UTF-8 text") from None
    _check_depth(value)
    json.dumps(value, ensure_ascii=False).encode()  # its UnicodeEncodeError is a ValueError
    return value


def _parse_int(digits: str) -> int | float:
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
    """Check what the safetensors library does not check in a file's header.

    The library itself checks that tensors follow each other without gaps, and that their sizes match
    dtype and shape.

    Args:
        path: path of the file.
        what: description of the expected file for the message, such as "an encrypted clip".
        error: class of the error to raise.
        hint: hint of that error.

    Raises:
        LcveError: of the given class: not a regular file, a header that is too large or not JSON, an
            entry that is not an object, or a shape that no array can have.
        OSError: the file does not exist, or cannot be read.
    """
    with open_file(path, what, error) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        max_length = min(MAX_HEADER_BYTES, max(size - _LENGTH_BYTES, 0))
        data = file.read(length) if length <= max_length else b""
    _check_header(length, max_length, data, f"not {what}, or a damaged one: {path}", error, hint)


def check_safetensors_bytes(data: bytes, path: Path, what: str, error: type[LcveError], *, hint: str = "") -> None:
    """Check the header of a file that has been read, as ``check_safetensors`` does; ``path`` is for the message."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    max_length = min(MAX_HEADER_BYTES, max(len(data) - _LENGTH_BYTES, 0))
    header = data[_LENGTH_BYTES : _LENGTH_BYTES + length] if length <= max_length else b""
    _check_header(length, max_length, header, f"not {what}, or a damaged one: {path}", error, hint)


def _check_header(length: int, max_length: int, data: bytes, message: str, error: type[LcveError], hint: str) -> None:
    try:
        if length > max_length:
            raise ValueError(f"a header of {length} bytes, expected at most {max_length}")
        _check_tensors(parse_json(data))
    except ValueError as reason:
        raise error(f"{message} ({reason})", hint=hint) from None


def _check_tensors(header: Any) -> None:
    if not isinstance(header, dict):
        raise ValueError("the header is not an object")
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        shape = entry.get("shape") if isinstance(entry, dict) else None
        if not isinstance(shape, list) or not _is_shape(shape):
            raise ValueError(f"{name[:80]!r} has no valid shape of up to {MAX_AXES} axes")


def _is_shape(shape: Collection[Any]) -> bool:
    """Check whether an array can have this shape; like NumPy, skip zero sizes in the product."""
    valid = len(shape) <= MAX_AXES and all(type(size) is int and size >= 0 for size in shape)
    return valid and math.prod(size for size in shape if size) * _LENGTH_BYTES <= MAX_INT


def map_array(path: Path, what: str, error: type[LcveError]) -> npt.NDArray[Any]:
    """Memory-map the array of a ``.npy`` file, read-only.

    Raises:
        LcveError: of the given class: not a regular file, not a numeric array, an empty array, or one
            that claims more values than the file contains.
        OSError: the file does not exist, or cannot be read.
    """
    with open_file(path, what, error) as file:
        return _map_open(path, file, error)


def _map_open(path: Path, file: BufferedReader, error: type[LcveError]) -> npt.NDArray[Any]:
    size = os.fstat(file.fileno()).st_size
    try:
        shape, fortran_order, dtype = _array_header(file)
        start = file.tell()
        if dtype.kind not in "biuf" or not _is_shape(shape):
            raise ValueError(f"{dtype} of shape {str(shape)[:80]} is not a numeric array")
        needed = math.prod(shape) * dtype.itemsize
        if not 0 < needed <= size - start:
            raise ValueError(f"the header claims {needed} bytes of values, expected 1 to {size - start} (file size)")
    except _BROKEN_ARRAYS as reason:
        first_line = next(iter(str(reason).splitlines()), "damaged")[:200]
        raise error(f"{path} cannot be read as a NumPy array: {first_line}") from None
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran_order else "C")


def _array_header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read shape, order and dtype with NumPy's own readers."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_ARRAY_HEADER)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=_ARRAY_HEADER)
    raise ValueError(f"version {version}, expected 1.0 or 2.0")
