"""The gate: a graph is parsed by the library itself, and must then be what its manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.tensorrt.float64 import refuse_double
from lcve_deploy.libraries.tensorrt import TensorRT, dtype_name, parser_errors

__all__ = ["ParsedGraph", "check_graph", "parse_graph"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ParsedGraph:
    """A graph as a network of the library. Builder and parser must live as long as the network is used.

    Args:
        builder: that made the network.
        network: strongly typed; what is built from.
        parser: that filled it, and may own the weights.
    """

    builder: Any
    network: Any
    parser: Any


def check_graph(model: GraphSource, *, clips: TensorSpec, logits: TensorSpec, library: TensorRT) -> None:
    """Whether the library would build an engine from this graph. Nothing is built.

    Args:
        model: a graph that has been read, or an ONNX file with its external data next to it.
        clips: the input, as the manifest says.
        logits: the output, as the manifest says.
        library: whose parser to ask.

    Raises:
        BuildError: float64 anywhere in the graph; a node that the parser refuses; or an input or output
            with another name, dtype or shape. Names every problem of its kind.
        MissingDependencyError: onnx-ir is not installed.
    """
    parse_graph(model, clips=clips, logits=logits, library=library)


def parse_graph(model: GraphSource, *, clips: TensorSpec, logits: TensorSpec, library: TensorRT) -> ParsedGraph:
    """The network of a graph that has passed the gate; arguments and errors as of ``check_graph``."""
    files = read_graph(model)
    refuse_double(files, extra=library.kind)
    library.log.clear()
    builder = _new_builder(library)
    network = builder.create_network(_creation_flags(library))
    parser = library.module.OnnxParser(network, library.log.logger)
    with files.on_disk() as path:
        parsed = parser.parse_from_file(str(path))
    if not parsed:
        raise BuildError(f"{library} cannot parse {files.path}: {parser_errors(parser) or library.log.quote()}")
    _require(files.path, "inputs", [clips], [network.get_input(i) for i in range(network.num_inputs)])
    _require(files.path, "outputs", [logits], [network.get_output(i) for i in range(network.num_outputs)])
    return ParsedGraph(builder=builder, network=network, parser=parser)


def _new_builder(library: TensorRT) -> Any:
    try:
        return library.module.Builder(library.log.logger)
    except TypeError:  # what the bindings raise where the library returns nothing, as without a driver
        raise BuildError(
            f"{library} cannot start here: {library.log.quote()}",
            hint="build on a machine with an NVIDIA GPU and its driver",
        ) from None


def _creation_flags(library: TensorRT) -> int:
    """Strong typing, where it is still a choice; newer libraries know nothing else."""
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
        raise BuildError(f"the {what} of {model} should be {_show(expected)}; they are {_show(specs) or 'missing'}")


def _show(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(
        f"{spec.name} {spec.dtype} [{', '.join('batch' if size is None else str(size) for size in spec.shape)}]"
        for spec in specs
    )
