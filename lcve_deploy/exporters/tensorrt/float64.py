"""Reject graphs with float64, which TensorRT's parser silently replaces by another type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from lcve_deploy.artifact.graph_files import GraphFiles
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.storage import parse_model
from lcve_deploy.libraries.requiring import require

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["require_no_float64"]

_DTYPE_ATTRIBUTES: Final = ("to", "dtype", "output_dtype", "stash_type")
_SHOWN: Final = 5


def require_no_float64(graph: GraphFiles, *, extra: str) -> None:
    """Check that no initializer, value, constant or type attribute of a graph is float64.

    Args:
        graph: graph that has been read; its external data is not checked.
        extra: extra of this package that installs onnx-ir, for the message.

    Raises:
        ArtifactError: the graph cannot be parsed.
        BuildError: the graph has float64. The message lists up to 5 places.
        MissingDependencyError: onnx-ir is not installed.
    """
    places = list(dict.fromkeys(_float64_places(_read(graph, extra))))
    if places:
        more = f" and {len(places) - _SHOWN} more" if len(places) > _SHOWN else ""
        raise BuildError(
            f"{graph.path} has float64, which TensorRT does not support: {', '.join(places[:_SHOWN])}{more}",
            hint="use float32 or a smaller type in these places",
        )


def _read(graph: GraphFiles, extra: str) -> ir.Model:
    with require("checking a graph needs onnx-ir", extra=extra):
        import onnx_ir  # noqa: F401
    return parse_model(graph)


def _float64_places(model: ir.Model) -> Iterator[str]:
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
            yield from (f"initializer {name}" for name, tensor in tensors if tensor is not None and _is_float64(tensor))


def _in_values(values: Iterable[ir.Value]) -> Iterator[str]:
    import onnx_ir as ir

    yield from (f"value {value.name}" for value in values if value.dtype == ir.DataType.DOUBLE)


def _in_attributes(node: ir.Node) -> Iterator[str]:
    import onnx_ir as ir

    for name, attribute in node.attributes.items():
        named = attribute.type == ir.AttributeType.INT and name in _DTYPE_ATTRIBUTES
        if named and attribute.value == ir.DataType.DOUBLE:
            yield f"{node.op_type} {node.name} ({name})"
        if attribute.type == ir.AttributeType.TENSOR and _is_float64(attribute.value):
            yield f"{node.op_type} {node.name} ({name})"


def _is_float64(tensor: ir.TensorProtocol) -> bool:
    import onnx_ir as ir

    return tensor.dtype == ir.DataType.DOUBLE
