"""Parse ``ModelInferRequest`` without copying its tensors: raw bytes stay in the buffer that gRPC received.

protobuf copies the tensors once when it parses a message, and again on every access to them. So the raw tensors are
cut out first, and protobuf parses only the remaining bytes. Their number is limited, because a field of two bytes can
become an object of hundreds of bytes.

Source: Protocol Buffers, encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.errors import RequestError, TooLargeError
from lcve_deploy.protocol.stubs import messages

__all__ = ["RawRequest", "message_reader"]

_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10
_MIN_CUT_BYTES: Final = 1 << 14
"""Size in bytes below which cutting a message costs more than copying it."""
_MAX_FIELDS: Final = 4096
"""Maximum top-level fields of a message."""
_MAX_OTHER_BYTES: Final = 8 * 2**20
"""Maximum bytes of a message without its raw tensors; typed contents count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawRequest:
    """A parsed ``ModelInferRequest``.

    Args:
        message: protobuf message; without its raw tensors if they were cut out.
        raw: raw tensors (``raw_input_contents``).
    """

    message: Any
    raw: Sequence[bytes | memoryview]


def message_reader() -> Callable[[bytes], RawRequest]:
    """Return a function that parses a ``ModelInferRequest`` from bytes.

    The function raises protobuf's ``DecodeError`` if the bytes are not a valid message, ``RequestError`` if it has too
    many fields, and ``TooLargeError`` if it has too many bytes in addition to raw tensors.
    """
    from google.protobuf.message import DecodeError

    kind = messages().ModelInferRequest
    tag = kind.DESCRIPTOR.fields_by_name["raw_input_contents"].number << 3 | _LENGTH_DELIMITED

    def read(data: bytes) -> RawRequest:
        if len(data) < _MIN_CUT_BYTES:
            message = kind.FromString(data)
            return RawRequest(message=message, raw=message.raw_input_contents)
        parts = _cut_tensors(data, tag)
        if parts is None:
            raise DecodeError("the message is truncated")
        rest, raw = parts
        if sum(map(len, rest)) > _MAX_OTHER_BYTES:
            raise TooLargeError(f"expected at most {_MAX_OTHER_BYTES} bytes in addition to raw_input_contents")
        return RawRequest(message=kind.FromString(b"".join(rest)), raw=raw)

    return read


def _cut_tensors(data: bytes, tag: int) -> tuple[list[memoryview], list[memoryview]] | None:
    """Split a message into all other fields, and the contents of the fields with the tag.

    Returns:
        Views of the other fields (with their tags) and of the contents; None if the message is truncated.

    Raises:
        RequestError: the message has more than ``_MAX_FIELDS`` fields.
    """
    view, rest, cut, position = memoryview(data), list[memoryview](), list[memoryview](), 0
    while position < len(data):
        found_tag, first = _varint(data, position)
        last = _value_end(data, first, found_tag & 7)
        if last is None:
            return None
        if found_tag == tag:
            cut.append(view[_varint(data, first)[1] : last])
        else:
            rest.append(view[position:last])
        if len(rest) + len(cut) > _MAX_FIELDS:
            raise RequestError(f"expected a request of at most {_MAX_FIELDS} fields")
        position = last
    return rest, cut


def _value_end(data: bytes, first: int, kind: int) -> int | None:
    """Return the position after a field's value; None if it is beyond the message, or for groups, which are invalid."""
    if kind == _LENGTH_DELIMITED:
        size, start = _varint(data, first)
        last = start + size
    elif kind == _VARINT:
        last = _varint(data, first)[1]
    elif kind in (_FIXED64, _FIXED32):
        last = first + (8 if kind == _FIXED64 else 4)
    else:
        return None
    return last if last <= len(data) else None


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a varint and the position after it, which is beyond the message if the varint is truncated."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    return value, len(data) + 1
