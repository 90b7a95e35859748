"""Fuse attention into the operator of ONNX Runtime whose kernel keeps no scores in memory.

The graph of an artifact has attention in standard operators, which every runtime takes: products, softmax, transposes.
ONNX Runtime runs them one by one, and writes the scores of all queries to memory twice. Its ``MultiHeadAttention``
computes the same in blocks that stay in the cache. So the graph is changed when a session on the CPU or on CUDA opens
it. The graph's own blocks of queries become one operator again, which is faster. In a graph of low precision, the
softmax is float32 between two casts; the kernels of the operator compute it in float32 too. What is not exactly this
pattern is left as it is.

Source: onnx/onnx.proto: ModelProto, GraphProto, NodeProto, AttributeProto; ONNX Runtime, ContribOperators.md.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from lcve_deploy.artifact.external import TENSOR
from lcve_deploy.artifact.wire import BYTES, VARINT, Budget, Field, read_fields, read_packed, write_bytes, write_varint
from lcve_deploy.files.inside import Buffer

__all__ = ["fuse_attention"]

_DOMAIN: Final = b"com.microsoft"
_OPERATOR: Final = b"MultiHeadAttention"

_MODEL_GRAPH: Final = 7
_MODEL_OPSET: Final = 8
_GRAPH_NODE: Final = 1
_GRAPH_INITIALIZER: Final = 5
_GRAPH_OUTPUT: Final = 12
_INT64: Final = 7
_FLOAT: Final = 1
_LOW_TYPES: Final = (10, 16)
"""float16 and bfloat16."""
_MAX_SHAPE_BYTES: Final = 64

_SPLIT_HEADS: Final = (0, 2, 1, 3)
_SWAP_LAST: Final = (0, 1, 3, 2)


@dataclass(frozen=True, kw_only=True)
class _NodeFields:
    """Numbers of the fields of ``NodeProto``."""

    inputs: int = 1
    outputs: int = 2
    name: int = 3
    kind: int = 4
    attribute: int = 5
    domain: int = 7


@dataclass(frozen=True, kw_only=True)
class _AttributeFields:
    """Numbers of the fields of ``AttributeProto``."""

    name: int = 1
    real: int = 2
    integer: int = 3
    graph: int = 6
    integers: int = 8
    graphs: int = 11
    type: int = 20


_NODE: Final = _NodeFields()
_ATTRIBUTE: Final = _AttributeFields()
_FLOAT_TYPE: Final = 1
_INT_TYPE: Final = 2


class _DifferentError(Exception):
    """The graph differs from the pattern here."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Node:
    """A node: its place in the graph, and what the pattern asks about.

    Args:
        place: the field of the graph that contains it.
        kind: operator; with its domain, unless that is ONNX's own.
        inputs: names of its inputs.
        outputs: names of its outputs.
        integers: its attributes that are integers or lists of them, by name.
        nested: whether an attribute is a graph, which may use any value of this one.
    """

    place: Field
    kind: bytes
    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]
    integers: Mapping[bytes, tuple[int, ...]]
    nested: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Attention:
    """Attention over all queries, or over one block of them.

    Args:
        inputs: queries, keys and values, ``[batch, tokens, width]`` each.
        heads: number of heads.
        output: name of the result, ``[batch, queries, width]``.
        last: the node that gives the result.
        nodes: all nodes of the pattern.
    """

    inputs: tuple[bytes, bytes, bytes]
    heads: int
    output: bytes
    last: _Node
    nodes: tuple[_Node, ...]


def fuse_attention(graph: Buffer) -> bytes:
    """Return a graph whose attention is ``MultiHeadAttention`` of ONNX Runtime.

    Args:
        graph: content of an ``.onnx`` file that has been checked.

    Returns:
        The changed graph; the same bytes if there is nothing to fuse.

    Raises:
        ValueError: the bytes are not an ONNX graph.
    """
    data, budget = memoryview(graph).cast("B"), Budget()
    fields = list(read_fields(data, 0, len(data), budget))
    graphs = [item for item in fields if item.number == _MODEL_GRAPH]
    if len(graphs) != 1:
        return bytes(data)
    parsed = _Graph(data, graphs[0], budget)
    found = parsed.attention()
    if not found:
        return bytes(data)
    opset = write_bytes(_MODEL_OPSET, write_bytes(1, _DOMAIN) + write_varint(1, 2))
    changed = opset + write_bytes(_MODEL_GRAPH, b"".join(parsed.rewritten(found)))
    return b"".join(changed if item.number == _MODEL_GRAPH else _copy(data, item) for item in fields)


class _Graph:
    """The nodes of a graph, who uses their outputs, and the shapes that are constants of it."""

    def __init__(self, data: memoryview, place: Field, budget: Budget) -> None:
        self.data, self.budget = data, budget
        self.fields = list(read_fields(data, place.start, place.end, budget))
        self.nodes = [self._node(item) for item in self.fields if item.number == _GRAPH_NODE]
        self._outputs = {self._name(item) for item in self.fields if item.number == _GRAPH_OUTPUT}
        self._shapes = dict(self._constant_shapes())
        self._makers = {output: node for node in self.nodes for output in node.outputs}
        self._uses = Counter([*self._outputs, *(name for node in self.nodes for name in node.inputs)])
        self._users = {name: node for node in self.nodes for name in node.inputs}

    def attention(self) -> list[_Attention]:
        """Find every attention of the pattern; none in a graph that has others within it."""
        if any(node.nested for node in self.nodes):
            return []
        found = []
        for node in self.nodes:
            if node.kind == b"Softmax":
                try:
                    found.append(self._match(node))
                except _DifferentError:
                    continue
        return list(self._joined(found))

    def rewritten(self, found: list[_Attention]) -> Iterator[bytes]:
        """Yield the fields of the graph, with nodes of ``MultiHeadAttention`` and without those that nobody uses."""
        replaced = {id(one.last): one for one in found}
        chain = {id(node) for one in found for node in one.nodes}
        kept, needed = set(), set(self._outputs)
        for node in reversed(self.nodes):
            if id(node) in replaced:
                needed.update(replaced[id(node)].inputs)
            elif id(node) not in chain or needed.intersection(node.outputs):
                kept.add(id(node))
                needed.update(node.inputs)
        dropped = {name for one in found for node in one.nodes for name in node.inputs} - needed
        nodes = iter(self.nodes)
        for item in self.fields:
            if item.number == _GRAPH_NODE:
                node = next(nodes)
                if id(node) in replaced:
                    yield write_bytes(_GRAPH_NODE, _fused(replaced[id(node)]))
                elif id(node) in kept:
                    yield _copy(self.data, item)
            elif item.number != _GRAPH_INITIALIZER or self._name(item, TENSOR.name) not in dropped:
                yield _copy(self.data, item)

    def _joined(self, found: list[_Attention]) -> Iterator[_Attention]:
        """Join the blocks of one Concat; those that differ stay apart."""
        groups: dict[int, list[_Attention]] = {}
        for one in found:
            user = self._users.get(one.output)
            groups.setdefault(id(user if user and user.kind == b"Concat" else one), []).append(one)
        for blocks in groups.values():
            try:
                yield self._join(blocks)
            except _DifferentError:
                yield from blocks

    def _join(self, blocks: list[_Attention]) -> _Attention:
        first = blocks[0]
        queries = tuple(one.inputs[0] for one in blocks)
        split, whole = self._maker(queries[0], b"Split"), self._users.get(first.output)
        if whole is None:
            raise _DifferentError
        _require(split.integers == whole.integers == {b"axis": (1,)})
        _require(split.outputs == queries and whole.inputs == tuple(one.output for one in blocks))
        _require(all(one.inputs[1:] == first.inputs[1:] and one.heads == first.heads for one in blocks))
        _require(all(self._uses[one.output] == 1 for one in blocks))
        return _Attention(
            inputs=(split.inputs[0], *first.inputs[1:]),
            heads=first.heads,
            output=whole.outputs[0],
            last=whole,
            nodes=(split, whole, *(node for one in blocks for node in one.nodes)),
        )

    def _match(self, softmax: _Node) -> _Attention:
        _require(softmax.integers.get(b"axis", (-1,)) == (-1,))
        widened, narrowed = self._cast_before(softmax), self._cast_after(softmax)
        _require(len(widened) == len(narrowed))
        first, last = (*widened, softmax)[0], (softmax, *narrowed)[-1]
        scores = self._maker(first.inputs[0], b"MatMul")
        turned = self._maker(scores.inputs[1], b"Transpose", perm=_SWAP_LAST)
        mixed = self._only_user(last, b"MatMul")
        _require(mixed.inputs[0] == last.outputs[0])
        joined = self._only_user(mixed, b"Transpose", perm=_SPLIT_HEADS)
        result = self._only_user(joined, b"Reshape")
        _require(self._uses[scores.outputs[0]] == 1)
        heads = [self._heads(name) for name in (scores.inputs[0], turned.inputs[0], mixed.inputs[1])]
        sizes = {self._shapes.get(reshape.inputs[1], ()) for reshape, _ in heads}
        _require(len(sizes) == 1)
        (size,) = sizes
        _require(len(size) == 4 and size[:2] == (0, 0) and min(size[2:]) > 0)
        _require(self._shapes.get(result.inputs[1]) == (0, 0, size[2] * size[3]))
        queries, keys, values = (reshape.inputs[0] for reshape, _ in heads)
        return _Attention(
            inputs=(queries, keys, values),
            heads=size[2],
            output=result.outputs[0],
            last=result,
            nodes=(
                *(scores, turned, *widened, softmax, *narrowed, mixed, joined, result),
                *(node for pair in heads for node in pair),
            ),
        )

    def _cast_before(self, softmax: _Node) -> tuple[_Node, ...]:
        """Return the cast of the scores to float32; nothing if they are float32 already."""
        cast = self._makers.get(softmax.inputs[0])
        if cast is None or cast.kind != b"Cast":
            return ()
        _require(cast.integers == {b"to": (_FLOAT,)} and self._uses[cast.outputs[0]] == 1)
        return (cast,)

    def _cast_after(self, softmax: _Node) -> tuple[_Node, ...]:
        """Return the cast of the softmax to a low type; nothing if it stays float32."""
        cast = self._users.get(softmax.outputs[0])
        if cast is None or cast.kind != b"Cast":
            return ()
        _require(self._uses[softmax.outputs[0]] == 1 and cast.integers.get(b"to") in [(low,) for low in _LOW_TYPES])
        return (cast,)

    def _heads(self, name: bytes) -> tuple[_Node, _Node]:
        """Return the nodes that divide a value into heads: a Reshape and a Transpose."""
        transpose = self._maker(name, b"Transpose", perm=_SPLIT_HEADS)
        return self._maker(transpose.inputs[0], b"Reshape"), transpose

    def _maker(self, name: bytes, kind: bytes, *, perm: tuple[int, ...] = ()) -> _Node:
        node = self._makers.get(name)
        if node is None or node.kind != kind or node.integers.get(b"perm", ()) != perm:
            raise _DifferentError
        return node

    def _only_user(self, node: _Node, kind: bytes, *, perm: tuple[int, ...] = ()) -> _Node:
        user = self._users.get(node.outputs[0])
        if user is None or self._uses[node.outputs[0]] != 1:
            raise _DifferentError
        return self._maker(user.outputs[0], kind, perm=perm)

    def _node(self, place: Field) -> _Node:
        parts: dict[int, list[bytes]] = {}
        integers: dict[bytes, tuple[int, ...]] = {}
        nested = False
        for item in read_fields(self.data, place.start, place.end, self.budget):
            if item.number == _NODE.attribute:
                name, values, graph = self._attribute(item)
                integers[name], nested = values, nested or graph
            elif item.wire == BYTES:
                parts.setdefault(item.number, []).append(self._bytes(item))
        domain, kind = b"".join(parts.get(_NODE.domain, [])), b"".join(parts.get(_NODE.kind, []))
        return _Node(
            place=place,
            kind=domain + b":" + kind if domain else kind,
            inputs=tuple(parts.get(_NODE.inputs, [])),
            outputs=tuple(parts.get(_NODE.outputs, [])),
            integers=integers,
            nested=nested,
        )

    def _attribute(self, place: Field) -> tuple[bytes, tuple[int, ...], bool]:
        """Return its name, its integers, and whether it is a graph."""
        name, nested = b"", False
        integers: list[int] = []
        for item in read_fields(self.data, place.start, place.end, self.budget):
            nested = nested or item.number in (_ATTRIBUTE.graph, _ATTRIBUTE.graphs)
            if item.number == _ATTRIBUTE.name:
                name = self._bytes(item)
            elif item.number in (_ATTRIBUTE.integer, _ATTRIBUTE.integers):
                integers += self._integers(item)
        return name, tuple(integers), nested

    def _integers(self, item: Field) -> list[int]:
        """Return signed integers: one, or several that are packed."""
        packed = item.wire == BYTES
        values = read_packed(self.data, item.start, item.end, self.budget) if packed else [item.value]
        return [value - 2**64 if value >= 2**63 else value for value in values]

    def _constant_shapes(self) -> Iterator[tuple[bytes, tuple[int, ...]]]:
        """Yield the values of small int64 initializers, by name."""
        for place in self.fields:
            if place.number != _GRAPH_INITIALIZER:
                continue
            items = {item.number: item for item in read_fields(self.data, place.start, place.end, self.budget)}
            kind, raw, name = (items.get(number) for number in (TENSOR.data_type, TENSOR.raw_data, TENSOR.name))
            if kind is None or raw is None or name is None or kind.wire != VARINT or kind.value != _INT64:
                continue
            size = raw.end - raw.start
            if size <= _MAX_SHAPE_BYTES and size % 8 == 0:
                yield self._bytes(name), struct.unpack(f"<{size // 8}q", self._bytes(raw))

    def _name(self, place: Field, number: int = 1) -> bytes:
        """Return the name of an initializer, or of an output of the graph."""
        fields = read_fields(self.data, place.start, place.end, self.budget)
        return next((self._bytes(item) for item in fields if item.number == number), b"")

    def _bytes(self, item: Field) -> bytes:
        return bytes(self.data[item.start : item.end])


def _require(same: bool) -> None:
    if not same:
        raise _DifferentError


def _fused(attention: _Attention) -> bytes:
    """Return the ``NodeProto``. The queries are scaled already, as ``scale`` says."""
    heads = write_bytes(_ATTRIBUTE.name, b"num_heads") + write_varint(attention.heads, _ATTRIBUTE.integer)
    scale = write_bytes(_ATTRIBUTE.name, b"scale") + write_varint(_ATTRIBUTE.real << 3 | 5) + struct.pack("<f", 1.0)
    return b"".join(
        [
            *(write_bytes(_NODE.inputs, name) for name in attention.inputs),
            write_bytes(_NODE.outputs, attention.output),
            write_bytes(_NODE.name, _OPERATOR + b"_" + attention.output),
            write_bytes(_NODE.kind, _OPERATOR),
            write_bytes(_NODE.attribute, heads + write_varint(_INT_TYPE, _ATTRIBUTE.type)),
            write_bytes(_NODE.attribute, scale + write_varint(_FLOAT_TYPE, _ATTRIBUTE.type)),
            write_bytes(_NODE.domain, _DOMAIN),
        ]
    )


def _copy(data: memoryview, item: Field) -> bytes:
    content = data[item.start : item.end]
    if item.wire == BYTES:
        return write_bytes(item.number, content)
    return write_varint(item.number << 3 | item.wire) + bytes(content)
