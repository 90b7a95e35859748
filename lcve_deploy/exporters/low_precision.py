"""Convert the matrix products of the canonical graph to fp16 or bf16, as a strongly typed graph.

The file states the type of every value, so no engine chooses its own precision. The products of the blocks, and
operators that only pass on their values, use the low type. Everything else stays float32, including the products with
keyed tensors, so no bit of the folded embedding is lost.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.graph_files import GraphSource
from lcve_deploy.errors import PrecisionError
from lcve_deploy.exporters.bank import keyed_values
from lcve_deploy.exporters.storage import Steps, load_graph, save_graph
from lcve_deploy.model.precision import Precision

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["LOW_PRECISIONS", "write_low_precision"]

LOW_PRECISIONS: Final = (Precision.FP16, Precision.BF16)

_PRODUCTS: Final = frozenset({"MatMul"})
"""Operators that use the low type, unless an input holds a keyed tensor."""

_FOLLOWERS: Final = frozenset({"Add", "Concat", "Gelu", "Relu", "Reshape", "Split", "Transpose"})
"""Operators that keep the low type if every computed input has it, because they round only once.

Other activations, LayerNorm and the residual stream are not included: their sums and differences lose digits in a low
type. An ``Add`` of two computed values belongs to the residual stream. The output of the graph is float32 as well.
"""

_DIVIDES: Final = frozenset({"Reshape", "Split"})
"""Operators that divide a value, into heads or blocks of queries."""

_MOVES: Final = _DIVIDES | {"Transpose"}
"""Operators that compute nothing."""


def write_low_precision(source: GraphSource, target: Path, precision: Precision, *, steps: Steps | None = None) -> None:
    """Write a strongly typed graph with its data.

    Args:
        source: ``model.onnx`` of an artifact, with its data next to it.
        target: file to write, in another folder that is being staged.
        precision: one of ``LOW_PRECISIONS``.
        steps: called with the number of large tensors written and their total.

    Raises:
        MissingDependencyError: onnx-ir is not installed.
        PrecisionError: a weight is out of range for the type.
        ValueError: the precision is not one of ``LOW_PRECISIONS``.
    """
    if precision not in LOW_PRECISIONS:
        raise ValueError(f"expected fp16 or bf16, received {precision}")
    model = load_graph(source)
    _Typing(model.graph, precision).apply()
    save_graph(model, target, steps=steps)


class _Typing:
    """Visits the nodes once, from the clips to the logits, and sets the type of every value."""

    def __init__(self, graph: ir.Graph, precision: Precision) -> None:
        import onnx_ir as ir

        self._graph, self._precision = graph, precision
        self._low_type = {Precision.FP16: ir.DataType.FLOAT16, Precision.BF16: ir.DataType.BFLOAT16}[precision]
        self._keyed, self._results = keyed_values(graph), frozenset(graph.outputs)
        self._low: set[ir.Value] = set()
        self._casts: dict[ir.Value, ir.Value] = {}

    def apply(self) -> None:
        for node in tuple(self._graph):
            low = self._runs_low(node)
            for index, value in enumerate(node.inputs):
                if value is not None and (value in self._low) != low:
                    self._retype_input(node, index, value, low=low)
            if low:
                self._low.update(node.outputs)

    def _runs_low(self, node: ir.Node) -> bool:
        if not self._results.isdisjoint(node.outputs):
            return False
        if node.op_type in _PRODUCTS:
            return self._keyed.isdisjoint(value for value in node.inputs if value is not None)
        if node.op_type in _DIVIDES and all(map(self._is_only_multiplied, node.outputs)):
            return True
        computed = [value for value in node.inputs if value is not None and not value.is_initializer()]
        expected = 1 if node.op_type == "Add" else len(computed)
        return node.op_type in _FOLLOWERS and len(computed) == expected and self._low.issuperset(computed)

    def _is_only_multiplied(self, value: ir.Value) -> bool:
        """Return whether all uses of a value, however it is moved, are products that use the low type.

        It is then rounded before it is moved, not after: the numbers are the same, and the attention that they belong
        to keeps the form that runtimes fuse.
        """
        nodes = [use.node for use in value.uses()]
        return bool(nodes) and all(
            self._runs_low(node)
            if node.op_type in _PRODUCTS
            else node.op_type in _MOVES and all(map(self._is_only_multiplied, node.outputs))
            for node in nodes
        )

    def _retype_input(self, node: ir.Node, index: int, value: ir.Value, *, low: bool) -> None:
        if not value.is_initializer():
            node.replace_input_with(index, self._cast(value, node, low=low))
        elif low and value.dtype == _float():
            self._lower(value)

    def _cast(self, value: ir.Value, before: ir.Node, *, low: bool) -> ir.Value:
        """Return the value in the other type; the same cast is used by all operators."""
        import onnx_ir as ir

        if value not in self._casts:
            cast = ir.node("Cast", [value], {"to": int(self._low_type if low else _float())}, name=f"Cast_{value.name}")
            cast.outputs[0].name = f"{value.name}_cast"
            self._graph.insert_before(before, cast)
            self._casts[value] = cast.outputs[0]
        return self._casts[value]

    def _lower(self, weight: ir.Value) -> None:
        """Give a weight the low type. It is converted only while it is written, so one copy at a time is in memory."""
        import onnx_ir as ir

        original = weight.const_value
        if original is None:
            return
        low, name = self._low_type, str(weight.name)
        array = original.numpy()
        _require_in_range(array, low, name, self._precision)

        def make() -> ir.TensorProtocol:
            return ir.Tensor(original.numpy().astype(low.numpy()), dtype=low, name=name)

        weight.const_value = ir.LazyTensor(make, dtype=low, shape=ir.Shape(array.shape), name=name)
        weight.type = ir.TensorType(low)
        self._low.add(weight)


def _require_in_range(array: npt.NDArray[Any], low: ir.DataType, name: str, precision: Precision) -> None:
    largest = np.abs(array).max()
    with np.errstate(over="ignore"):
        in_range = np.isfinite(np.float32(largest.astype(low.numpy())))
    if not in_range:
        raise PrecisionError(
            f"{name} is out of range for {precision}: its largest absolute value is {largest:.3g}",
            hint="use bf16 or fp32",
        )


def _float() -> ir.DataType:
    import onnx_ir as ir

    return ir.DataType.FLOAT
