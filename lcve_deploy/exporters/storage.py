"""Read and write graphs: small weights inside the graph, large ones next to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from lcve_deploy.artifact.external import ExternalTensor
from lcve_deploy.artifact.graph_files import GraphFiles, GraphSource, read_graph
from lcve_deploy.errors import ArtifactError
from lcve_deploy.libraries.requiring import require

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["EXTERNAL_DATA_BYTES", "Steps", "load_graph", "parse_model", "require_onnx_ir", "save_graph"]

EXTERNAL_DATA_BYTES: Final = 64 * 2**20
"""Total size above which weights go to a file next to the graph, which engines can map instead of parsing it."""

_SMALL_BYTES: Final = 1024

Steps = Callable[[int, int], None]


def require_onnx_ir() -> None:
    """Check that onnx-ir is installed.

    Raises:
        MissingDependencyError: onnx-ir is not installed.
    """
    with require("changing a graph needs onnx-ir", extra="build"):
        import onnx_ir  # noqa: F401


def load_graph(source: GraphSource) -> ir.Model:
    """Read a graph to change it. External weights are read on each use and not kept in memory.

    Raises:
        ArtifactError: the graph or its files cannot be used, as of ``read_graph``.
        MissingDependencyError: onnx-ir is not installed.
    """
    files = read_graph(source)
    model = parse_model(files)
    for tensor in files.external:
        model.graph.initializers[tensor.name].const_value = _read_on_demand(files, tensor)
    return model


def parse_model(files: GraphFiles) -> ir.Model:
    """Parse a graph that has been read; its external data are not opened.

    Raises:
        ArtifactError: protobuf does not take it.
        MissingDependencyError: onnx-ir is not installed.
    """
    require_onnx_ir()
    import onnx
    import onnx_ir as ir
    from google.protobuf.message import DecodeError  # onnx, and so onnx-ir, brings it

    try:
        proto = onnx.ModelProto.FromString(bytes(files.graph.data))
    except DecodeError as error:
        raise ArtifactError(f"{files.path} cannot be read as an ONNX graph: {error}") from None
    model: ir.Model = ir.from_proto(proto)
    return model


def _read_on_demand(files: GraphFiles, tensor: ExternalTensor) -> ir.LazyTensor:
    import onnx_ir as ir

    dtype = ir.DataType(tensor.data_type)

    def read() -> ir.TensorProtocol:
        array = np.frombuffer(files.values(tensor), dtype.numpy()).reshape(tensor.shape).copy()
        return ir.Tensor(array, dtype=dtype, name=tensor.name)

    return ir.LazyTensor(read, dtype=dtype, shape=ir.Shape(tensor.shape), name=tensor.name)


def save_graph(model: ir.Model, path: Path, *, steps: Steps | None = None) -> None:
    """Write a graph, and ``<name>.data`` next to it if the weights are large.

    Args:
        model: model to write.
        path: file to write, in a folder that is being staged.
        steps: called with the number of large tensors written and their total.
    """
    import onnx_ir as ir

    tensors = [value.const_value for value in model.graph.initializers.values() if value.const_value is not None]
    if sum(tensor.nbytes for tensor in tensors) > EXTERNAL_DATA_BYTES:
        _move_large(model, path, steps)
    ir.save(model, path)


def _move_large(model: ir.Model, path: Path, steps: Steps | None) -> None:
    import onnx_ir as ir

    initializers = model.graph.initializers.values()
    values = [v for v in initializers if v.const_value is not None and v.const_value.nbytes > _SMALL_BYTES]
    moved = ir.external_data.convert_tensors_to_external(
        [value.const_value for value in values if value.const_value is not None],
        path.parent,
        f"{path.name}.data",
        callback=(lambda _, info: steps(info.index + 1, info.total)) if steps else None,
    )
    for value, tensor in zip(values, moved, strict=True):
        value.const_value = tensor
