"""Protocol Buffers messages by their bytes: the few fields of an ONNX graph that say where its weights are.

Every number of fields is bounded: a few bytes can make millions of them.

Source: Protocol Buffers, encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = [
    "BYTES",
    "MAX_FIELDS",
    "VARINT",
    "Budget",
    "Field",
    "read_fields",
    "read_packed",
    "write_bytes",
    "write_varint",
]

MAX_FIELDS: Final = 2**20
"""Maximum number of fields of a graph; the largest known model has a tenth of it."""

VARINT: Final = 0
BYTES: Final = 2
_FIXED: Final = {1: 8, 5: 4}
_MAX_VARINT_BYTES: Final = 10
_MAX_TAG: Final = 2**32 - 1


class Budget:
    """How many more fields may be read."""

    def __init__(self, fields: int = MAX_FIELDS) -> None:
        self.fields = fields

    def spend(self) -> None:
        """Count one field.

        Raises:
            ValueError: there were too many.
        """
        self.fields -= 1
        if self.fields < 0:
            raise ValueError(f"more than {MAX_FIELDS} fields")


class Field(NamedTuple):
    """A field of a message: its number, its wire type, its value if it is a varint, and where its content is."""

    number: int
    wire: int
    value: int
    start: int
    end: int


def read_fields(data: memoryview, start: int, end: int, budget: Budget) -> Iterator[Field]:
    """Read the fields of a message, in their order.

    Args:
        data: bytes of the outermost message.
        start: first byte of this message.
        end: byte after its last.
        budget: of the outermost message.

    Raises:
        ValueError: the bytes are not a message, or have too many fields.
    """
    while start < end:
        budget.spend()
        tag, start = _read_varint(data, start, end)
        number, wire = tag >> 3, tag & 7
        if tag > _MAX_TAG or not number:
            raise ValueError("a field without a valid number")
        value = 0
        if wire == VARINT:
            first = start
            value, start = _read_varint(data, start, end)
        else:
            length = _FIXED.get(wire)
            if wire == BYTES:
                length, start = _read_varint(data, start, end)
            if length is None:
                raise ValueError(f"a field of wire type {wire}")
            first, start = start, start + length
        if start > end:
            raise ValueError("a field that is longer than its message")
        yield Field(number, wire, value, first, start)


def read_packed(data: memoryview, start: int, end: int, budget: Budget) -> Iterator[int]:
    """Read numbers that are packed into one field; arguments and errors as of ``read_fields``."""
    while start < end:
        budget.spend()
        value, start = _read_varint(data, start, end)
        yield value


def _read_varint(data: memoryview, start: int, end: int) -> tuple[int, int]:
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        if start >= end:
            raise ValueError("a message that ends within a number")
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, start
    raise ValueError("a number of more than ten bytes")


def write_varint(value: int, field: int | None = None) -> bytes:
    """Write a number; as a field of its own if a field's number is given."""
    if field is not None:
        return write_varint(field << 3 | VARINT) + write_varint(value)
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_bytes(field: int, content: bytes | memoryview) -> bytes:
    """Write a field of bytes, text or a message."""
    return b"".join([write_varint(field << 3 | BYTES), write_varint(len(content)), content])
