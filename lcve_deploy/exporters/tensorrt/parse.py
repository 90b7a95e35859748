"""Parse a graph with the library's own parser, and check that inputs and output match the manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcve_deploy.artifact import ModelSpec, TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.bank import first_axis, input_specs
from lcve_deploy.exporters.tensorrt.float64 import require_no_float64
from lcve_deploy.libraries.tensorrt import TensorRT, create, dtype_name, parser_errors

__all__ = ["ParsedGraph", "check_graph", "parse_graph"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ParsedGraph:
    """A graph as a network of the library. Keep builder and parser alive while the network is used.

    Args:
        builder: builder that created the network.
        network: strongly typed network.
        parser: parser that filled the network, and that may own its weights.
    """

    builder: Any
    network: Any
    parser: Any


def check_graph(model: GraphSource, *, spec: ModelSpec, library: TensorRT) -> None:
    """Check that the library can parse a graph, without building an engine.

    Args:
        model: graph that has been read, or ONNX file with its external data next to it.
        spec: inputs and output, as stated in the manifest.
        library: library whose parser is used.

    Raises:
        ArtifactError: the graph, or a file that it names, cannot be used.
        BuildError: the graph has float64, the library cannot start, the parser refuses a node, or an input or output
            has another name, dtype or shape.
        MissingDependencyError: onnx-ir is not installed.
    """
    parse_graph(model, spec=spec, library=library)


def parse_graph(model: GraphSource, *, spec: ModelSpec, library: TensorRT) -> ParsedGraph:
    """Check a graph and return its network; arguments and errors are those of ``check_graph``."""
    files = read_graph(model)
    require_no_float64(files, extra=library.kind)
    builder = _new_builder(library)
    network = builder.create_network(_creation_flags(library))
    parser = library.module.OnnxParser(network, library.log.logger)
    with files.on_disk() as path:
        parsed = parser.parse_from_file(str(path))
    if not parsed:
        raise BuildError(f"{library} cannot parse {files.path}: {parser_errors(parser) or library.log.quote()}")
    _require(files.path, "inputs", input_specs(spec), [network.get_input(i) for i in range(network.num_inputs)])
    _require(files.path, "outputs", [spec.output], [network.get_output(i) for i in range(network.num_outputs)])
    return ParsedGraph(builder=builder, network=network, parser=parser)


def _new_builder(library: TensorRT) -> Any:
    builder = create(library, "Builder")
    if builder is None:
        raise BuildError(
            f"{library} cannot start here: {library.log.quote()}",
            hint="build on a machine with an NVIDIA GPU and a driver that supports the library's CUDA version",
        )
    return builder


def _creation_flags(library: TensorRT) -> int:
    """Return the flag for strong typing, or no flags in newer versions, which are always strongly typed."""
    flag = library.member("NetworkDefinitionCreationFlag", "STRONGLY_TYPED")
    return 0 if flag is None else 1 << int(flag)


def _require(model: Path, what: str, expected: Sequence[TensorSpec], received: Sequence[Any]) -> None:
    specs = [
        TensorSpec(
            name=tensor.name,
            dtype=dtype_name(tensor.dtype),
            shape=tuple(None if size < 0 else size for size in tensor.shape),
        )
        for tensor in received
    ]
    if specs != list(expected):
        raise BuildError(f"expected the {what} {_show(expected)} in {model}, received {_show(specs) or 'none'}")


def _show(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} [{_show_shape(spec)}]" for spec in specs)


def _show_shape(spec: TensorSpec) -> str:
    return ", ".join(first_axis(spec) if size is None else str(size) for size in spec.shape)
