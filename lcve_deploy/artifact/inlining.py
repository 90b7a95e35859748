"""A graph without external data: large tensors become inputs, whose values the runtime is given, small ones go inside.

So a runtime that takes no files from memory opens none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.external import TENSOR, ExternalTensor
from lcve_deploy.artifact.graph_files import GraphFiles
from lcve_deploy.artifact.wire import BYTES, Budget, Field, read_fields, write_bytes, write_varint

__all__ = ["inputs_for_weights"]

_GRAPH: Final = 7
_INITIALIZER: Final = 5
_INPUT: Final = 11

_DTYPES: Final = {1: np.float32, 3: np.int8, 7: np.int64, 10: np.float16}
"""NumPy's types by ``TensorProto.DataType``, of the tensors that can be large."""

_SMALL_BYTES: Final = 2**20
"""Scales, zero points and indices stay constants, which a runtime may need when it reads the graph."""

Arrays = Mapping[str, npt.NDArray[np.generic]]


def inputs_for_weights(files: GraphFiles) -> tuple[bytes, Arrays]:
    """Write a graph whose large weights are inputs.

    Returns:
        The graph, and the value of each input by its name; arrays share the memory of ``files``.
    """
    data = memoryview(files.graph.data)
    moved = {tensor.start: tensor for tensor in files.external}
    arrays = {tensor.name: _array(files, tensor) for tensor in files.external if _is_input(tensor)}
    parts = []
    for field in read_fields(data, 0, len(data), Budget()):
        inner = _graph(data, field, moved, files) if field.number == _GRAPH else None
        parts.append(_copy(data, field) if inner is None else write_bytes(_GRAPH, b"".join(inner)))
    return b"".join(parts), arrays


def _is_input(tensor: ExternalTensor) -> bool:
    return tensor.length >= _SMALL_BYTES and tensor.data_type in _DTYPES


def _array(files: GraphFiles, tensor: ExternalTensor) -> npt.NDArray[np.generic]:
    return np.frombuffer(files.values(tensor), _DTYPES[tensor.data_type]).reshape(tensor.shape)


def _graph(
    data: memoryview, graph: Field, moved: Mapping[int, ExternalTensor], files: GraphFiles
) -> Iterator[bytes | memoryview]:
    for field in read_fields(data, graph.start, graph.end, Budget()):
        tensor = moved.get(field.start) if field.number == _INITIALIZER else None
        if tensor is None:
            yield _copy(data, field)
        elif _is_input(tensor):
            yield write_bytes(_INPUT, _value_info(tensor))
        else:
            yield write_bytes(_INITIALIZER, _inline(tensor, files))


def _copy(data: memoryview, field: Field) -> bytes:
    content = data[field.start : field.end]
    if field.wire == BYTES:
        return write_bytes(field.number, content)
    return write_varint(field.number << 3 | field.wire) + bytes(content)


def _value_info(tensor: ExternalTensor) -> bytes:
    """``ValueInfoProto``: a name, and the type of a tensor with its shape."""
    shape = b"".join(write_bytes(1, write_varint(size, 1)) for size in tensor.shape)
    kind = write_bytes(1, write_varint(tensor.data_type, 1) + write_bytes(2, shape))
    return write_bytes(1, tensor.name.encode()) + write_bytes(2, kind)


def _inline(tensor: ExternalTensor, files: GraphFiles) -> bytes:
    """``TensorProto`` with its values inside."""
    return b"".join(
        [
            *(write_varint(size, TENSOR.dims) for size in tensor.shape),
            write_varint(tensor.data_type, TENSOR.data_type),
            write_bytes(TENSOR.name, tensor.name.encode()),
            write_bytes(TENSOR.raw_data, files.values(tensor)),
        ]
    )
