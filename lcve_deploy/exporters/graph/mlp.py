"""The MLP of a block, plain or gated, and its activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.model.transformer import Activation, TransformerConfig

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["mlp"]

_GELU_OPSET: Final = 20


def mlp(nodes: Nodes, x: ir.Value, block: str, config: TransformerConfig) -> ir.Value:
    """Return the MLP of every token; ``block`` is the prefix of its weights."""
    hidden = nodes.linear(x, f"{block}mlp.fc1")
    if config.gated:
        gate, values = nodes.split(hidden, 2)
        hidden = nodes.op("Mul", _activate(nodes, gate, config.activation), values)
    else:
        hidden = _activate(nodes, hidden, config.activation)
    if config.mlp_norm:
        hidden = nodes.norm(hidden, f"{block}mlp.norm", kind=config.norm, eps=config.block_eps)
    return nodes.linear(hidden, f"{block}mlp.fc2")


def _activate(nodes: Nodes, x: ir.Value, activation: Activation) -> ir.Value:
    match activation:
        case Activation.GELU:
            return _gelu(nodes, x)
        case Activation.GELU_TANH:
            return _gelu_tanh(nodes, x)
        case Activation.QUICK_GELU:
            return nodes.op("Mul", x, nodes.op("Sigmoid", nodes.op("Mul", x, nodes.scalar(1.702))))
        case Activation.RELU:
            return nodes.op("Relu", x)
        case Activation.SILU:
            return nodes.op("Mul", x, nodes.op("Sigmoid", x))


def _gelu(nodes: Nodes, x: ir.Value) -> ir.Value:
    if nodes.opset >= _GELU_OPSET:
        return nodes.op("Gelu", x)
    erf = nodes.op("Erf", nodes.op("Div", x, nodes.scalar(2**0.5)))
    return nodes.op("Mul", nodes.op("Mul", x, nodes.op("Add", erf, nodes.scalar(1.0))), nodes.scalar(0.5))


def _gelu_tanh(nodes: Nodes, x: ir.Value) -> ir.Value:
    if nodes.opset >= _GELU_OPSET:
        return nodes.op("Gelu", x, approximate="tanh")
    cube = nodes.op("Mul", nodes.op("Mul", nodes.op("Mul", x, x), x), nodes.scalar(0.044715))
    inner = nodes.op("Mul", nodes.op("Add", x, cube), nodes.scalar((2 / np.pi) ** 0.5))
    tanh = nodes.op("Add", nodes.op("Tanh", inner), nodes.scalar(1.0))
    return nodes.op("Mul", nodes.op("Mul", x, tanh), nodes.scalar(0.5))
