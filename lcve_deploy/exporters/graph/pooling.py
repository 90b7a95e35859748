"""From the tokens of the last block to the output: pooling, the last norm, and the classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.graph.attention import heads_of, mix
from lcve_deploy.exporters.graph.blocks import Blocks
from lcve_deploy.exporters.graph.mlp import mlp
from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.exporters.graph.tokens import cubes_of
from lcve_deploy.model.keyed import READOUT_INDEX
from lcve_deploy.model.transformer import FinalNorm, Pooler, Readout, TransformerConfig

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["output_of"]


def output_of(nodes: Nodes, x: ir.Value, config: TransformerConfig) -> ir.Value:
    """Return the output of the model: logits, a vector, or either for every token."""
    if config.final_norm is FinalNorm.BEFORE:
        x = nodes.norm(x, "norm", kind=config.norm, eps=config.final_eps)
    features = _pooled(nodes, x, config)
    if config.final_norm is FinalNorm.AFTER:
        features = nodes.norm(features, "norm", kind=config.norm, eps=config.final_eps)
    if config.projection:
        features = nodes.linear(features, "projection")
    if config.unit:
        features = nodes.unit(features)
    return _classified(nodes, features, config) if config.head else features


def _pooled(nodes: Nodes, x: ir.Value, config: TransformerConfig) -> ir.Value:
    match config.readout:
        case Readout.CLASS_TOKEN | Readout.FIRST_CUBE:
            index = nodes.op("Unsqueeze", nodes.keyed(READOUT_INDEX), nodes.ints((1,)))
            return nodes.op("GatherND", x, index, batch_dims=1)
        case Readout.MEAN:
            return _mean(nodes, x)
        case Readout.CUBES_MEAN:
            return _mean(nodes, cubes_of(nodes, x, config))
        case Readout.CLASS_AND_MEAN:
            return nodes.op("Concat", _first(nodes, x, 1, config), _mean(nodes, cubes_of(nodes, x, config)), axis=-1)
        case Readout.PREFIX_PAIR:
            return _first(nodes, x, 2, config)
        case Readout.ATTENTION if config.pooler is not None:
            return _attended(nodes, x, config, config.pooler)
        case _:
            return x


def _mean(nodes: Nodes, x: ir.Value) -> ir.Value:
    return nodes.op("ReduceMean", x, nodes.ints((1,)), keepdims=0)


def _first(nodes: Nodes, x: ir.Value, count: int, config: TransformerConfig) -> ir.Value:
    """Return the first tokens, one after the other: ``[batch, count * width]``."""
    tokens = nodes.op("Slice", x, nodes.ints((0,)), nodes.ints((count,)), nodes.ints((1,)))
    return nodes.reshape(tokens, (0, count * config.width))


def _attended(nodes: Nodes, x: ir.Value, config: TransformerConfig, pooler: Pooler) -> ir.Value:
    """Return what the constant query reads from all tokens."""
    form, width = config.pooler_blocks, config.width
    x = Blocks(nodes, form)(x, "pooler.blocks.", pooler.depth)
    if pooler.input_norm:
        x = nodes.norm(x, "pooler.norm1", kind=form.norm, eps=form.block_eps)
    keys, values = (
        heads_of(nodes, part, heads=form.heads, head_width=form.head_width)
        for part in nodes.split(nodes.linear(x, "pooler.kv"), 2)
    )
    turned = nodes.op("Transpose", keys, perm=[0, 1, 3, 2])
    pooled = mix(nodes, _query(nodes, form), turned, values, width=width)
    if pooler.projection:
        pooled = nodes.linear(pooled, "pooler.projection")
    if pooler.residual:
        pooled = nodes.op("Add", nodes.repeat("pooler.residual", (1, width), x), pooled)
    if pooler.hidden:
        normed = nodes.norm(pooled, "pooler.norm2", kind=form.norm, eps=form.block_eps)
        pooled = nodes.op("Add", pooled, mlp(nodes, normed, "pooler.", form))
    return nodes.op("Squeeze", pooled, nodes.ints((1,)))


def _query(nodes: Nodes, form: TransformerConfig) -> ir.Value:
    """Return the query of each head, scaled by 1/√(head width): ``[1, heads, 1, head width]``."""
    query: npt.NDArray[np.float64] = nodes.weights["pooler.query"].astype(np.float64) * form.head_width**-0.5
    return nodes.constant("pooler.query", query.astype(np.float32).reshape(1, form.heads, 1, form.head_width))


def _classified(nodes: Nodes, features: ir.Value, config: TransformerConfig) -> ir.Value:
    """Multiply features by the classifier of each clip; tokens are rows, and so is a single vector."""
    axis, bias = nodes.ints((1,)), "head.bias"
    if config.readout is Readout.TOKENS:
        product = nodes.op("MatMul", features, nodes.keyed("head.weight"))
        return nodes.op("Add", product, nodes.op("Unsqueeze", nodes.keyed(bias), axis))
    rows = nodes.op("Unsqueeze", features, axis)  # one row for each clip, because each has a weight
    product = nodes.op("Squeeze", nodes.op("MatMul", rows, nodes.keyed("head.weight")), axis)
    return nodes.op("Add", product, nodes.keyed(bias))
