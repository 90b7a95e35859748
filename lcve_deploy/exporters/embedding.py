"""A graph that runs by itself: the keyed tensors of one key as initializers, and the clips as its only input.

For runtimes that cannot hold a bank, such as Triton's own backends. Works on the graph of every precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.graph_files import GraphSource
from lcve_deploy.artifact.names import BANK_PREFIX, KEY_INPUT
from lcve_deploy.errors import ArtifactError
from lcve_deploy.exporters.bank import gathers_of, is_bank
from lcve_deploy.exporters.initializers import initializer
from lcve_deploy.exporters.storage import Steps, load_graph, save_graph

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["embed_key"]

Tensors = Mapping[str, npt.NDArray[Any]]

_BROADCAST: Final = frozenset({"Add", "MatMul"})
"""Operators that need no axis for the batch in their second input, and are faster without one."""


def embed_key(source: GraphSource, tensors: Tensors, target: Path, *, steps: Steps | None = None) -> None:
    """Write a graph with the keyed tensors of one key inside, which gives the same logits for clips of this key.

    Args:
        source: graph of a model, in any precision.
        tensors: keyed tensors of the key, by name.
        target: file to write; the data of a large graph is written to ``<name>.data`` next to it.
        steps: called with the number of large tensors written and their total.

    Raises:
        ArtifactError: the graph cannot be used, or the tensors are not those of its bank.
        MissingDependencyError: onnx-ir is not installed.
    """
    model = load_graph(source)
    gathers = gathers_of(model.graph)
    _require(model.graph, tensors)
    for name, gather in gathers.items():
        _Embedded(model.graph, name, np.asarray(tensors[name])).replace(gather)
    kept = [value for value in model.graph.inputs if value.name != KEY_INPUT and not is_bank(value)]
    model.graph.inputs[:] = kept
    save_graph(model, target, steps=steps)


def _require(graph: ir.Graph, tensors: Tensors) -> None:
    expected = {
        str(value.name).removeprefix(BANK_PREFIX): f"{value.dtype.numpy()} {list(value.shape[1:])}"
        for value in graph.inputs
        if is_bank(value) and value.dtype is not None and value.shape is not None
    }
    received = {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()}
    if received != expected or not expected:
        raise ArtifactError(
            f"expected the keyed tensors {_show(expected)} of the graph's bank, received {_show(received)}",
            hint="use a key folder of this model",
        )


def _show(tensors: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {tensor}" for name, tensor in tensors.items()) or "none"


class _Embedded:
    """Puts one keyed tensor in the place of the node that gathers it."""

    def __init__(self, graph: ir.Graph, name: str, tensor: npt.NDArray[Any]) -> None:
        self._graph, self._name, self._tensor = graph, name, tensor

    def replace(self, gather: ir.Node) -> None:
        for use in gather.outputs[0].uses():
            reader = self._indexing(use.node)
            if reader is not None:
                self._read_one_token(use.node, reader)
            elif use.node.op_type in _BROADCAST and use.idx == 1:
                use.node.replace_input_with(use.idx, initializer(self._graph, self._name, self._tensor))
            else:
                use.node.replace_input_with(
                    use.idx, initializer(self._graph, f"{self._name}.batch", self._tensor[None])
                )
        self._graph.remove(gather, safe=True)

    def _indexing(self, node: ir.Node) -> ir.Node | None:
        """Return the node that reads one token for each clip, if it takes its index from this one."""
        readers = [use.node for use in node.outputs[0].uses()]
        return readers[0] if [reader.op_type for reader in readers] == ["GatherND"] else None

    def _read_one_token(self, unsqueeze: ir.Node, reader: ir.Node) -> None:
        """Read the same token of all clips: the batch of indices that the operator needs is not known here."""
        import onnx_ir as ir

        index = initializer(self._graph, self._name, self._tensor)
        simple = ir.node("Gather", [reader.inputs[0], index], {"axis": 1}, name=f"{reader.name}_embedded")
        self._graph.insert_before(reader, simple)
        old, new = reader.outputs[0], simple.outputs[0]
        new.type, new.shape, name = old.type, old.shape, old.name
        ir.convenience.replace_all_uses_with(old, new)
        self._graph.remove([reader], safe=True)
        new.name = name
        self._graph.remove([unsqueeze], safe=True)
