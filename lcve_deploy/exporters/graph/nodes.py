"""Create nodes and initializers on a tape of onnx-ir: what every part of a graph needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.model.transformer import Norm, Weights

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Change", "Nodes"]

_MIN_NORM: Final = 1e-12

Change = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]
"""A change of a weight before it is written."""


class Nodes:
    """Creates the nodes of one graph.

    Args:
        weights: weights of the model by name.
        bank: inputs with the keyed tensors of all keys, by the tensors' names.
        key: input with the row of the bank for each clip.
        opset: version of the ONNX operators.
    """

    def __init__(self, weights: Weights, *, bank: Mapping[str, ir.Value], key: ir.Value, opset: int) -> None:
        from onnx_ir import tape

        self.weights, self.bank, self.opset, self.tape = weights, bank, opset, tape.Tape()
        self._key, self._count = key, 0
        self._constants: dict[str, ir.Value] = {}

    def op(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        """Add a node with one output."""
        self._count += 1
        return self.tape.op(kind, inputs, attributes, name=f"{kind}_{self._count}")

    def divide(self, x: ir.Value, *sizes: ir.Value, count: int, **attributes: int) -> Sequence[ir.Value]:
        """Add a Split with several outputs; their sizes are equal, or those of an input."""
        self._count += 1
        return self.tape.op_multi_out("Split", [x, *sizes], attributes, num_outputs=count, name=f"Split_{self._count}")

    def split(self, x: ir.Value, parts: int) -> Sequence[ir.Value]:
        """Divide the last axis into equal parts."""
        return self.divide(x, count=parts, axis=-1, num_outputs=parts)

    def reshape(self, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        """Reshape; 0 keeps the size of an axis."""
        return self.op("Reshape", x, self.ints(shape))

    def keyed(self, name: str) -> ir.Value:
        """Give each clip the tensor of its key: add an axis for the batch."""
        return self.op("Gather", self.bank[name], self._key, axis=0)

    def repeat(self, name: str, shape: tuple[int, ...], like: ir.Value) -> ir.Value:
        """Repeat a weight for every clip of the batch of another value: ``[batch, *shape]``."""
        batch, rest = self.op("Shape", like, start=0, end=1), self.ints(shape)
        return self.op("Expand", self.weight(name), self.op("Concat", batch, rest, axis=0))

    def linear(self, x: ir.Value, name: str, change: Change | None = None) -> ir.Value:
        """Multiply by a weight, and add its bias if it has one."""
        product = self.op("MatMul", x, self.weight(f"{name}.weight", change, transpose=True))
        if f"{name}.bias" not in self.weights:
            return product
        return self.op("Add", product, self.weight(f"{name}.bias", change))

    def norm(self, x: ir.Value, name: str, *, kind: Norm, eps: float, change: Change | None = None) -> ir.Value:
        """Normalise the last axis."""
        weight = self.weight(f"{name}.weight", change)
        if kind is Norm.LAYER:
            bias = self.weight(f"{name}.bias", change)
            return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)
        square = self.op("ReduceMean", self.op("Mul", x, x), self.ints((-1,)), keepdims=1)
        root = self.op("Sqrt", self.op("Add", square, self.scalar(eps)))
        return self.op("Mul", self.op("Div", x, root), weight)

    def unit(self, x: ir.Value) -> ir.Value:
        """Divide the last axis by its length."""
        length = self.op("ReduceL2", x, self.ints((-1,)), keepdims=1)
        minimum = self.constant("norm_floor", np.array(_MIN_NORM, np.float32))
        return self.op("Div", x, self.op("Max", length, minimum))

    def weight(self, name: str, change: Change | None = None, *, transpose: bool = False) -> ir.Value:
        """Add a weight as float32. It is converted only while it is written, so one copy at a time is in memory."""
        import onnx_ir as ir

        array = self.weights[name]

        def make() -> ir.TensorProtocol:
            changed = change(array) if change else array
            return ir.Tensor(np.ascontiguousarray(changed.T if transpose else changed, np.float32), name=name)

        shape = ir.Shape(array.shape[::-1] if transpose else array.shape)
        return self.tape.initializer(ir.LazyTensor(make, dtype=ir.DataType.FLOAT, shape=shape, name=name), name)

    def ints(self, values: tuple[int, ...]) -> ir.Value:
        """Return a constant of int64."""
        return self.constant("shape_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def scalar(self, value: float) -> ir.Value:
        """Return a constant of float32."""
        return self.constant(f"scalar_{value:.6g}", np.array(value, np.float32))

    def constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        """Return the constant with this name, and create it if it does not exist."""
        import onnx_ir as ir

        if name not in self._constants:
            self._constants[name] = self.tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[name]
