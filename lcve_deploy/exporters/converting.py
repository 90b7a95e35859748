"""Graphs of format 1, which have the keyed tensors of one key as initializers, in the form of today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.errors import ArtifactError
from lcve_deploy.exporters.bank import KEY_SPEC, graph_input
from lcve_deploy.exporters.initializers import initializer
from lcve_deploy.exporters.storage import Steps, load_graph, save_graph
from lcve_deploy.model.keyed import READOUT_INDEX

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["split_v1"]

_NAMES: Final = ("cube_embedding.weight", "positional_encoding", READOUT_INDEX, "head.weight", "head.bias")
"""Keyed tensors of format 1; ``readout.index`` only if the classifier reads a single token."""


def split_v1(source: GraphSource, target: Path, *, steps: Steps | None = None) -> dict[str, npt.NDArray[Any]]:
    """Write the graph of a format-1 artifact with its keyed tensors as inputs, and return these.

    No number changes.

    Args:
        source: ``model.onnx`` of the artifact, with its data and ``keyed.safetensors`` next to it.
        target: file to write, in a folder that is being staged.
        steps: called with the number of large tensors written and their total.

    Returns:
        The keyed tensors of the artifact's key by name, in the shapes of the graph without the axis of keys.

    Raises:
        ArtifactError: the graph cannot be used, or does not have the keyed tensors of format 1.
        MissingDependencyError: onnx-ir is not installed.
    """
    model = load_graph(source)
    graph = model.graph
    missing = [name for name in _NAMES if name not in graph.initializers and name != READOUT_INDEX]
    if missing:
        raise ArtifactError(f"expected a graph of format 1, received one without the initializers {', '.join(missing)}")
    splitting = _Splitting(graph)
    tensors = {name: splitting.take(name) for name in _NAMES if name in graph.initializers}
    save_graph(model, target, steps=steps)
    return tensors


class _Splitting:
    """Moves initializers of a graph to the bank, one at a time."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._key = graph, graph_input(KEY_SPEC)
        graph.inputs.append(self._key)

    def take(self, name: str) -> npt.NDArray[Any]:
        """Turn an initializer into an input, and return its value."""
        value = self._graph.initializers.pop(name)
        if value.const_value is None:
            raise ArtifactError(f"expected a value of the initializer {name}, found none")
        tensor = np.array(value.const_value.numpy(), order="C")
        bank = graph_input(
            TensorSpec(name=f"{BANK_PREFIX}{name}", dtype=str(tensor.dtype), shape=(None, *tensor.shape))
        )
        self._graph.inputs.append(bank)
        for use in tuple(value.uses()):
            self._attach(use.node, use.idx, bank, name)
        return tensor

    def _attach(self, reader: ir.Node, index: int, bank: ir.Value, name: str) -> None:
        gathered = self._before(reader, "Gather", [bank, self._key], f"gathered.{name}", axis=0)
        if name == READOUT_INDEX:
            self._read_by_clip(reader, gathered)
            return
        reader.replace_input_with(index, gathered)
        if name == "head.weight":
            self._multiply_by_clip(reader)

    def _read_by_clip(self, reader: ir.Node, gathered: ir.Value) -> None:
        """Replace the node that reads one token of all clips by one that reads a token for each."""
        import onnx_ir as ir

        indices = self._before(reader, "Unsqueeze", [gathered, self._axis()], "readout.indices")
        pooled = self._before(reader, "GatherND", [reader.inputs[0], indices], "readout.token", batch_dims=1)
        ir.convenience.replace_all_uses_with(reader.outputs[0], pooled)
        self._graph.remove(reader, safe=True)

    def _multiply_by_clip(self, product: ir.Node) -> None:
        """Make the product of clips with one weight one of each clip with its own."""
        import onnx_ir as ir

        features = product.inputs[0]
        product.replace_input_with(0, self._before(product, "Unsqueeze", [features, self._axis()], "head.rows"))
        squeeze = ir.node("Squeeze", [product.outputs[0], self._axis()], name="Squeeze_head")
        squeeze.outputs[0].name = "head.product"
        ir.convenience.replace_all_uses_with(product.outputs[0], squeeze.outputs[0])
        squeeze.replace_input_with(0, product.outputs[0])
        self._graph.insert_after(product, squeeze)

    def _before(
        self, reader: ir.Node, kind: str, inputs: list[ir.Value | None], name: str, **attributes: int
    ) -> ir.Value:
        import onnx_ir as ir

        node = ir.node(kind, inputs, attributes, name=f"{kind}_{name}")
        node.outputs[0].name = name
        self._graph.insert_before(reader, node)
        return node.outputs[0]

    def _axis(self) -> ir.Value:
        """Return the axis that is added for the batch."""
        return initializer(self._graph, "batch_axis", np.array([1], np.int64))
