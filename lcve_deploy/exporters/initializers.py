"""Add constants to a graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["initializer"]


def initializer(graph: ir.Graph, name: str, array: npt.NDArray[Any]) -> ir.Value:
    """Return the initializer with this name, and create it if it does not exist."""
    import onnx_ir as ir

    if name not in graph.initializers:
        tensor = ir.tensor(np.asarray(array, order="C"), name=name)
        graph.register_initializer(
            ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
        )
    return graph.initializers[name]
