"""The bank: keyed tensors as inputs of the graph, one row for each key.

A clip names the row of its key, and the graph gathers the tensors of that row. Nothing else in the graph depends on a
key, so engines belong to a model and serve any number of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import ModelSpec, TensorSpec
from lcve_deploy.artifact.names import BANK_PREFIX, KEY_INPUT
from lcve_deploy.model.keyed import KEYED_TENSORS, READOUT_INDEX, KeyedTensor
from lcve_deploy.model.transformer import Readout, ScrambledTransformer, TransformerConfig, weight_shapes

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = [
    "KEY_SPEC",
    "bank_specs",
    "first_axis",
    "gathers_of",
    "graph_input",
    "input_specs",
    "is_bank",
    "keyed_tensors",
    "keyed_values",
]

KEY_SPEC: Final = TensorSpec(name=KEY_INPUT, dtype="int64", shape=(None,))
"""Input of the graph that names the row of the bank for each clip."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where a keyed tensor comes from.

    Args:
        shape: shape in the graph without the axis of keys; None if a model of this configuration has no such tensor.
        value: the tensor in this shape.
    """

    shape: Callable[[TransformerConfig], tuple[int, ...] | None]
    value: Callable[[ScrambledTransformer], npt.ArrayLike]


def _readout_index(model: ScrambledTransformer) -> int:
    if model.readout_index is None:
        raise ValueError(f"expected the index of the token that a {model.config.readout} readout reads, received none")
    return model.readout_index


def _weight(name: str) -> _Source:
    """Return a tensor that is a weight as it is, if the configuration has it."""
    return _Source(
        shape=lambda config: weight_shapes(config).get(name),
        value=lambda model: model.weights[name],
    )


def _linear(name: str) -> _Source:
    """Return the weight of a linear layer, ``[in, out]``, if the configuration has it."""

    def shape(config: TransformerConfig) -> tuple[int, ...] | None:
        found = weight_shapes(config).get(name)
        return found and found[::-1]

    return _Source(shape=shape, value=lambda model: model.weights[name].T)


_SINGLE: Final = (Readout.CLASS_TOKEN, Readout.FIRST_CUBE)
_SOURCES: Final[Mapping[str, _Source]] = {
    "cube_embedding.weight": _linear("cube_embedding.weight"),
    READOUT_INDEX: _Source(shape=lambda config: () if config.readout in _SINGLE else None, value=_readout_index),
    "head.weight": _linear("head.weight"),
}
"""Keyed tensors that are not a weight as it is."""


def bank_specs(config: TransformerConfig) -> tuple[TensorSpec, ...]:
    """Return the inputs of the bank, in the order of the graph; the first axis counts keys."""
    shapes = ((keyed, _source(keyed).shape(config)) for keyed in KEYED_TENSORS)
    return tuple(
        TensorSpec(name=f"{BANK_PREFIX}{keyed.name}", dtype=keyed.dtype, shape=(None, *shape))
        for keyed, shape in shapes
        if shape is not None
    )


def keyed_tensors(model: ScrambledTransformer) -> dict[str, npt.NDArray[Any]]:
    """Return the keyed tensors of a scrambled model by name, in the shapes and dtypes of the graph."""
    names = {spec.name for spec in bank_specs(model.config)}
    return {
        keyed.name: np.array(_source(keyed).value(model), keyed.dtype, order="C")
        for keyed in KEYED_TENSORS
        if f"{BANK_PREFIX}{keyed.name}" in names
    }


def _source(keyed: KeyedTensor) -> _Source:
    return _SOURCES.get(keyed.name) or _weight(keyed.name)


def input_specs(model: ModelSpec) -> tuple[TensorSpec, ...]:
    """Return all inputs of a model's graph, in its order."""
    return (*model.clip_inputs, KEY_SPEC, *model.bank)


def first_axis(spec: TensorSpec) -> str:
    """Return what the first axis of an input or output counts."""
    return "keys" if spec.name.startswith(BANK_PREFIX) else "batch"


def graph_input(spec: TensorSpec) -> ir.Value:
    """Return an input of the graph; its first axis is dynamic."""
    import onnx_ir as ir

    dtype = ir.DataType.from_numpy(np.dtype(spec.dtype))
    return ir.Value(name=spec.name, type=ir.TensorType(dtype), shape=ir.Shape([first_axis(spec), *spec.shape[1:]]))


def gathers_of(graph: ir.Graph) -> dict[str, ir.Node]:
    """Return the node that gathers each keyed tensor of a graph, by name of the tensor."""
    inputs = {value: str(value.name).removeprefix(BANK_PREFIX) for value in graph.inputs if is_bank(value)}
    return {inputs[node.inputs[0]]: node for node in graph if node.op_type == "Gather" and node.inputs[0] in inputs}


def keyed_values(graph: ir.Graph) -> frozenset[ir.Value]:
    """Return the values of a graph that hold the keyed tensors of each clip."""
    return frozenset(node.outputs[0] for node in gathers_of(graph).values())


def is_bank(value: ir.Value) -> bool:
    """Return whether an input of a graph belongs to the bank."""
    return str(value.name).startswith(BANK_PREFIX)
