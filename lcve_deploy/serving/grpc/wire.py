"""Reading ``ModelInferRequest`` without copying its tensors: raw bytes stay where gRPC has put them.

protobuf copies a message of clips once as it parses it and again whenever its bytes are asked for. So the raw tensors
are cut out first, and protobuf reads the few bytes that are left. Those are bounded: a message of two bytes becomes an
object of hundreds.

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
"""Bytes of a message below which cutting costs more than copying."""
_MAX_FIELDS: Final = 4096
"""Fields of a message, on its highest level."""
_MAX_OTHER_BYTES: Final = 8 * 2**20
"""Bytes of a message without its raw tensors; typed contents are among them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RawRequest:
    """A message without its raw tensors, and these."""

    message: Any
    raw: Sequence[bytes | memoryview]


def message_reader() -> Callable[[bytes], RawRequest]:
    """What reads a ``ModelInferRequest``.

    It raises protobuf's ``DecodeError`` for what is no message, and ``RequestError`` or ``TooLargeError`` for more
    fields or bytes than a request has.
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
            raise DecodeError("the message is not whole")
        rest, raw = parts
        if sum(map(len, rest)) > _MAX_OTHER_BYTES:
            raise TooLargeError(f"at most {_MAX_OTHER_BYTES} bytes are accepted in addition to raw_input_contents")
        return RawRequest(message=kind.FromString(b"".join(rest)), raw=raw)

    return read


def _cut_tensors(data: bytes, tag: int) -> tuple[list[memoryview], list[memoryview]] | None:
    """What is not of the tag, and the contents of what is; None where the message is not whole."""
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
            raise RequestError(f"a request has at most {_MAX_FIELDS} fields")
        position = last
    return rest, cut


def _value_end(data: bytes, first: int, kind: int) -> int | None:
    """Where a field's value ends; None beyond the message, or for groups, which this message has none of."""
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
    """A number and where it ends; it ends beyond the message where that breaks off."""
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, position + index + 1
    return value, len(data) + 1
