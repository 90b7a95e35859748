"""External data of an ONNX graph: which tensors are in other files, and where; checked before native code reads it.

A graph that others wrote could name any file of this machine as a weight, and its content would show in the logits. So
a location is the plain name of a file next to the graph, and no tensor is longer than its place in the file. Only
initializers of the main graph have external data; in subgraphs, attributes, sparse tensors and functions it is refused.

The graph is read by its bytes, so that neither ``onnx`` nor protobuf is needed.

Source: onnx/onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto, FunctionProto, TensorProto.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from lcve_deploy.artifact.digests import path_problem
from lcve_deploy.artifact.wire import BYTES, VARINT, Budget, Field, read_fields, read_packed
from lcve_deploy.files.inside import Buffer
from lcve_deploy.files.reading import MAX_AXES

__all__ = ["TENSOR", "TYPE_BYTES", "ExternalTensor", "find_external"]

TYPE_BYTES: Final = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20), 1),
    **dict.fromkeys((4, 5, 10, 16), 2),
    **dict.fromkeys((1, 6, 12), 4),
    **dict.fromkeys((7, 11, 13, 14), 8),
    15: 16,
}
"""Bytes of a value of each ``TensorProto.DataType`` that takes whole bytes."""


@dataclass(frozen=True, kw_only=True)
class _Tensor:
    """Numbers of the fields of ``TensorProto``."""

    dims: int = 1
    data_type: int = 2
    name: int = 8
    raw_data: int = 9
    external_data: int = 13
    data_location: int = 14


TENSOR: Final = _Tensor()
_KEPT: Final = frozenset(vars(TENSOR).values())

_MODEL: Final = "model"
_GRAPH: Final = "graph"
_NODE: Final = "node"
_ATTRIBUTE: Final = "attribute"
_FUNCTION: Final = "function"
_TRAINING: Final = "training"
_SPARSE: Final = "sparse tensor"
_INITIALIZER: Final = "initializer"
_TENSOR: Final = "tensor"

_INNER: Final[dict[str, dict[int, str]]] = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _INITIALIZER, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
}
"""Fields of each message that can lead to a tensor, and the message in them."""

_OPERATOR: Final = 4
_READS_A_FILE: Final = (b"EPContext",)
_ORT_FORMAT: Final = b"ORTM"
_MAX_DEPTH: Final = 64
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_KEYS: Final = ("location", "offset", "length", "checksum")


@dataclass(frozen=True, kw_only=True)
class ExternalTensor:
    """An initializer whose values are in another file.

    Args:
        name: of the initializer.
        data_type: its ``TensorProto.DataType``.
        shape: of the tensor.
        location: name of a file next to the graph.
        offset: byte of the file at which the values begin.
        length: bytes of the values, as type and shape say.
        start: where its ``TensorProto`` is in the bytes of the graph.
        end: the byte after it.
    """

    name: str
    data_type: int
    shape: tuple[int, ...]
    location: str
    offset: int
    length: int
    start: int
    end: int


def find_external(graph: Buffer) -> tuple[ExternalTensor, ...]:
    """Find every initializer with external data, and check where each is; sizes of files are not known here.

    Args:
        graph: the content of an ``.onnx`` file.

    Raises:
        ValueError: not an ONNX graph; external data elsewhere than in an initializer of the main graph; a location
            that is not the name of a file next to the graph; or a node that reads a file. Names the first problem.
    """
    data = memoryview(graph).cast("B")
    if bytes(data[4:8]) == _ORT_FORMAT:
        raise ValueError("a model in ONNX Runtime's own format")
    walk = _Walk(data)
    walk.message(_MODEL, 0, len(data), (_MODEL,))
    if not walk.graphs:
        raise ValueError("a model without a graph")
    names = [tensor.name for tensor in walk.found]
    if len(set(names)) != len(names):
        raise ValueError("two initializers of one name with external data")
    return tuple(walk.found)


class _Walk:
    """One pass over all messages that can contain a tensor."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.budget = data, Budget()
        self.found: list[ExternalTensor] = []
        self.graphs = 0

    def message(self, kind: str, start: int, end: int, above: tuple[str, ...]) -> None:
        if len(above) > _MAX_DEPTH:
            raise ValueError(f"messages nested deeper than {_MAX_DEPTH}")
        inner = _INNER[kind]
        for item in read_fields(self.data, start, end, self.budget):
            if kind == _NODE and item.number == _OPERATOR and self._bytes(item) in _READS_A_FILE:
                raise ValueError(f"a node {self._text(item)}, which reads a file")
            if item.number not in inner:
                continue
            if item.wire != BYTES:
                raise ValueError(f"field {item.number} of a {kind} with wire type {item.wire}")
            self._inside(inner[item.number], item, above)

    def _inside(self, kind: str, item: Field, above: tuple[str, ...]) -> None:
        self.graphs += kind == _GRAPH and above == (_MODEL,)
        if kind in (_INITIALIZER, _TENSOR):
            self._tensor(item, main=kind == _INITIALIZER and above == (_MODEL, _GRAPH))
        else:
            self.message(kind, item.start, item.end, (*above, kind))

    def _tensor(self, place: Field, *, main: bool) -> None:
        fields = list(self._tensor_fields(place))
        external = [item for item in fields if item.number == TENSOR.external_data]
        located = [item.value for item in fields if item.number == TENSOR.data_location]
        if not external and not any(located):
            return
        names = [self._text(item) for item in fields if item.number == TENSOR.name]
        name = names[0] if len(names) == 1 else ""
        if not main:
            raise ValueError(f"external data of a tensor {name!r} that is not an initializer of the main graph")
        if not name or located != [1]:
            raise ValueError(f"external data of an initializer {name!r} without one name and one data location")
        self.found.append(self._external(name, fields, self._entries(name, external), place))

    def _tensor_fields(self, place: Field) -> Iterator[Field]:
        for item in read_fields(self.data, place.start, place.end, self.budget):
            if item.number in _KEPT:
                yield item

    def _entries(self, name: str, external: list[Field]) -> dict[str, str]:
        entries: dict[str, str] = {}
        for entry in external:
            parts = list(read_fields(self.data, entry.start, entry.end, self.budget)) if entry.wire == BYTES else []
            if [part.number for part in parts] != [1, 2] or any(part.wire != BYTES for part in parts):
                raise ValueError(f"external data of {name!r} whose entries are not pairs of key and value")
            key, value = map(self._text, parts)
            if key in entries or key not in _KEYS:
                raise ValueError(f"external data of {name!r} with an unexpected entry {key[:40]!r}")
            entries[key] = value
        return entries

    def _external(self, name: str, fields: list[Field], entries: dict[str, str], place: Field) -> ExternalTensor:
        location = entries.get("location", "")
        if "/" in location or path_problem(location):
            raise ValueError(
                f"external data of {name!r} at {location[:80]!r}, which is not the name of a file next to the graph"
            )
        shape = tuple(self._dims(fields))
        if len(shape) > MAX_AXES:
            raise ValueError(f"external data of {name!r} with {len(shape)} axes")
        types = [item.value for item in fields if item.number == TENSOR.data_type and item.wire == VARINT]
        if len(types) != 1 or types[0] not in TYPE_BYTES:
            raise ValueError(f"external data of {name!r} whose type is unknown")
        if any(item.number == TENSOR.raw_data for item in fields):
            raise ValueError(f"external data of {name!r}, which has values of its own, too")
        length = math.prod(shape) * TYPE_BYTES[types[0]]
        numbers = {key: entries.get(key, default) for key, default in (("offset", "0"), ("length", str(length)))}
        if not all(map(_NUMBER.fullmatch, numbers.values())):
            raise ValueError(f"external data of {name!r} whose offset or length is not a number")
        if int(numbers["length"]) != length:
            raise ValueError(f"external data of {name!r} of {numbers['length']} bytes, expected {length} by its shape")
        return ExternalTensor(
            name=name,
            data_type=types[0],
            shape=shape,
            location=location,
            offset=int(numbers["offset"]),
            length=length,
            start=place.start,
            end=place.end,
        )

    def _dims(self, fields: list[Field]) -> Iterator[int]:
        """The sizes; a writer may pack them."""
        for item in fields:
            if item.number != TENSOR.dims:
                continue
            if item.wire == VARINT:
                yield item.value
            elif item.wire == BYTES:
                yield from read_packed(self.data, item.start, item.end, self.budget)
            else:
                raise ValueError("a shape of an unexpected wire type")

    def _bytes(self, item: Field) -> bytes:
        return bytes(self.data[item.start : item.end])

    def _text(self, item: Field) -> str:
        if item.wire != BYTES:
            raise ValueError("a number where text was expected")
        return str(self.data[item.start : item.end], "utf-8")
