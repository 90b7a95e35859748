"""Arrays of integers in JSON, without a Python object for each number or list: those use up to thirty times the text.

Long arrays are cut out of the text and become uint8 arrays; Python's JSON parser reads the rest, which is short.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import RequestError, TooLargeError

__all__ = ["MAX_OTHER_BYTES", "parse_json"]

MAX_OTHER_BYTES: Final = 2**20
"""Maximum bytes of JSON in addition to long arrays of integers."""
_MIN_CUT_BYTES: Final = 1024
_MAX_DEPTH: Final = 16
_CHUNK_BYTES: Final = 2**20
_SPACES: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|\[[\[\],0-9 \t\r\n]*+|"', re.DOTALL)
"""A string, a run of characters that may be an array of integers, or a quote that begins no string."""
_SEPARATORS_TO_SPACE: Final = bytes.maketrans(b"[],", b"   ")
_DIGITS_TO_CLASSES: Final = bytes.maketrans(b"23456789\t\r\n", b"11111111   ")
_INVALID: Final = (
    *(b"[]", b"[,", b",,", b",]", b"]["),
    *(b"]0", b"]1", b"0[", b"1["),
    *(left + b"0" + right for left in (b"[", b",") for right in (b"0", b"1")),
)
"""Sequences that no JSON array has, after removing spaces and replacing the digits 2 to 9 by 1."""
_EXPECTED: Final = "expected integers from 0 to 255, in lists of equal lengths, as a tensor in JSON"
_HINT: Final = "tensors are arrays of integers from 0 to 255; larger ones are best sent as binary data"


def parse_json(text: bytes | memoryview) -> Any:
    """Parse JSON. Arrays of integers that are the ``data`` of an input and long become flat uint8 arrays.

    Raises:
        ValueError, RecursionError: the text is not JSON.
        RequestError: a long array is ragged, or has something else than integers from 0 to 255.
        TooLargeError: there is too much JSON in addition to long arrays of integers.
    """
    if len(text) <= _MIN_CUT_BYTES:
        return json.loads(bytes(text))
    rest, arrays = _cut_arrays(bytes(text))
    value = json.loads(rest)
    inputs = value.get("inputs") if isinstance(value, dict) else None
    for tensor in inputs if isinstance(inputs, list) else []:
        if isinstance(tensor, dict) and (name := _placeholder_in(tensor.get("data"))) in arrays:
            tensor["data"] = arrays[name]
    return value


def _placeholder_in(data: Any) -> str:
    """Return the only string of a list; an empty one if the value is something else."""
    return data[0] if isinstance(data, list) and len(data) == 1 and isinstance(data[0], str) else ""


def _cut_arrays(text: bytes) -> tuple[bytes, dict[str, npt.NDArray[np.uint8]]]:
    """Replace each long array of integers by a list of one string that no client can guess; return both."""
    _require_short(len(text.translate(None, _DIGITS + b"[]," + _SPACES)))
    nonce, arrays, parts, position, size = secrets.token_hex(16), dict[str, npt.NDArray[np.uint8]](), [], 0, 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == b'"':
            raise ValueError("a string has no end")
        if token[:1] == b'"' or len(token) < _MIN_CUT_BYTES:
            continue
        array = token.rstrip(b"," + _SPACES)
        name = f"{nonce}-{len(arrays)}"
        arrays[name] = _integers(array)
        parts += [text[position : match.start()], f'["{name}"]'.encode()]
        position = match.start() + len(array)
        size += len(parts[-2])
        _require_short(size)
    _require_short(size + len(text) - position)
    return b"".join([*parts, text[position:]]), arrays


def _require_short(size: int) -> None:
    if size > MAX_OTHER_BYTES:
        raise TooLargeError(
            f"expected at most {MAX_OTHER_BYTES} bytes of JSON in addition to arrays of integers, received {size}",
            hint=_HINT,
        )


def _integers(text: bytes) -> npt.NDArray[np.uint8]:
    """Return the values of a JSON array of integers, or of nested arrays of equal lengths, as a flat array.

    Raises:
        RequestError: the arrays are ragged, a value is above 255, or the text is no such array.
    """
    _require_arrays(text)
    flat, parts, position = text.translate(_SEPARATORS_TO_SPACE, b"\t\r\n"), [], 0
    while position < len(flat):
        end = flat.find(b" ", position + _CHUNK_BYTES)
        chunk = flat[position : end if end > 0 else len(flat)].strip()
        position += max(len(chunk), (end if end > 0 else len(flat)) - position)
        values = np.fromstring(chunk, np.int64, sep=" ") if chunk else np.empty(0, np.int64)
        if values.size and values.max() > 255:
            raise RequestError(_EXPECTED)
        parts.append(values.astype(np.uint8))
    return np.concatenate(parts)


def _require_arrays(text: bytes) -> None:
    """Raise an error unless a text of digits, commas, brackets and spaces is nested JSON arrays of equal lengths."""
    classes = text.translate(_DIGITS_TO_CLASSES)
    while b"  " in classes:
        classes = classes.replace(b"  ", b" ")
    pairs = [left + b" " + right for left in (b"0", b"1") for right in (b"0", b"1")]
    if any(pair in classes for pair in pairs):
        raise RequestError(_EXPECTED)
    compact = classes.replace(b" ", b"")
    if any(part in compact for part in _INVALID):
        raise RequestError(_EXPECTED)
    _require_equal_lengths(compact.translate(None, b"01"))


def _require_equal_lengths(skeleton: bytes) -> None:
    """Replace the innermost arrays by elements, again and again; they must all be equal, and fill those around them."""
    inner = None
    for _ in range(0 if skeleton.startswith(b"[" * _MAX_DEPTH) else _MAX_DEPTH):
        end = skeleton.find(b"]")
        row = skeleton[skeleton.rfind(b"[", 0, max(end, 0)) : end + 1]
        if end < 0 or row[:1] != b"[":
            break
        count, length = skeleton.count(row), row.count(b",") + 1
        if inner is not None and inner != count * length:
            break
        skeleton, inner = skeleton.replace(row, b""), count
        if not skeleton:
            if count == 1:
                return
            break
    raise RequestError(_EXPECTED)
