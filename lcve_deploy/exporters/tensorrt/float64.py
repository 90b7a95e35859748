"""float64 in a graph, which TensorRT's parser silently computes in another type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from lcve_deploy.artifact.graph_files import GraphFiles
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.storage import parse_model
from lcve_deploy.libraries.requiring import require

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["refuse_double"]

_DTYPE_ATTRIBUTES: Final = ("to", "dtype", "output_dtype", "stash_type")
_SHOWN: Final = 5


def refuse_double(graph: GraphFiles, *, extra: str) -> None:
    """Look for float64 in every initializer, value, constant, and attribute that names a type.

    Args:
        graph: a graph that has been read; its external data is not looked at.
        extra: of this package, which installs what reads the file.

    Raises:
        BuildError: the file cannot be read, or something in it is float64; names where.
        MissingDependencyError: onnx-ir is not installed.
    """
    places = list(dict.fromkeys(_doubles(_read(graph, extra))))
    if places:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        raise BuildError(
            f"{graph.path} has float64, which TensorRT does not compute with: {', '.join(places[:_SHOWN])}{more}",
            hint="write the graph with float32 or a smaller type in these places",
        )


def _read(graph: GraphFiles, extra: str) -> ir.Model:
    with require("checking a graph needs onnx-ir", extra=extra):
        import onnx_ir  # noqa: F401
    return parse_model(graph)


def _doubles(model: ir.Model) -> Iterator[str]:
    graphs: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    for graph in graphs:
        yield from _in_values(graph.inputs)
        yield from _in_initializers(graph)
        for node in graph.all_nodes():
            yield from _in_values(node.outputs)
            yield from _in_attributes(node)


def _in_initializers(graph: ir.Graph | ir.Function) -> Iterator[str]:
    import onnx_ir as ir

    for inner in (graph, *graph.subgraphs()):
        if isinstance(inner, ir.Graph):
            tensors = ((name, value.const_value) for name, value in inner.initializers.items())
            yield from (f"initializer {name}" for name, tensor in tensors if tensor is not None and _is_double(tensor))


def _in_values(values: Iterable[ir.Value]) -> Iterator[str]:
    import onnx_ir as ir

    yield from (f"value {value.name}" for value in values if value.dtype == ir.DataType.DOUBLE)


def _in_attributes(node: ir.Node) -> Iterator[str]:
    import onnx_ir as ir

    for name, attribute in node.attributes.items():
        named = attribute.type == ir.AttributeType.INT and name in _DTYPE_ATTRIBUTES
        if named and attribute.value == ir.DataType.DOUBLE:
            yield f"{node.op_type} {node.name} ({name})"
        if attribute.type == ir.AttributeType.TENSOR and _is_double(attribute.value):
            yield f"{node.op_type} {node.name} ({name})"


def _is_double(tensor: ir.TensorProtocol) -> bool:
    import onnx_ir as ir

    return tensor.dtype == ir.DataType.DOUBLE
