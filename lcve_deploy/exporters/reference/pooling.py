"""The readout of the built-in reference: pooling, the last norm, and the classifier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lcve_deploy.exporters.reference.encoder import Layers
from lcve_deploy.model.transformer import FinalNorm, Pooler, Readout, TransformerConfig

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_out"]


def read_out(x: Tensor, weights: Mapping[str, Tensor], config: TransformerConfig) -> Tensor:
    """Return the output of the model for tokens ``[batch, tokens, width]``."""
    from torch.nn.functional import normalize

    layers = Layers(weights, config)
    if config.final_norm is FinalNorm.BEFORE:
        x = layers.norm(x, "norm", config.final_eps)
    x = _pooled(x, weights, config)
    if config.final_norm is FinalNorm.AFTER:
        x = layers.norm(x, "norm", config.final_eps)
    if config.projection:
        x = layers.linear(x, "projection")
    if config.unit:
        x = normalize(x, dim=-1)
    return layers.linear(x, "head") if config.head else x


def _pooled(x: Tensor, weights: Mapping[str, Tensor], config: TransformerConfig) -> Tensor:
    import torch

    cubes = x[:, config.prefix :]
    match config.readout:
        case Readout.MEAN:
            return x.mean(1)
        case Readout.CUBES_MEAN:
            return cubes.mean(1)
        case Readout.CLASS_TOKEN:
            return x[:, 0]
        case Readout.FIRST_CUBE:
            return cubes[:, 0]
        case Readout.CLASS_AND_MEAN:
            return torch.cat([x[:, 0], cubes.mean(1)], dim=-1)
        case Readout.PREFIX_PAIR:
            return torch.cat([x[:, 0], x[:, 1]], dim=-1)
        case Readout.TOKENS:
            return x
        case Readout.ATTENTION:
            if config.pooler is None:
                raise ValueError("expected a pooler for a readout by attention, received none")
            return _attended(x, weights, config, config.pooler)


def _attended(x: Tensor, weights: Mapping[str, Tensor], config: TransformerConfig, pooler: Pooler) -> Tensor:
    """Return what the query reads from all tokens: ``[batch, width]``."""
    import torch

    layers = Layers(weights, config.pooler_blocks)
    x = layers.blocks(x, "pooler.blocks.", pooler.depth)
    if pooler.input_norm:
        x = layers.norm(x, "pooler.norm1")
    keys, values = layers.linear(x, "pooler.kv").unflatten(-1, (2, pooler.heads, -1)).unbind(2)
    query = weights["pooler.query"].unflatten(0, (pooler.heads, -1))
    scores = torch.einsum("hd,bnhd->bhn", query, keys) / query.shape[1] ** 0.5
    y = torch.einsum("bhn,bnhd->bhd", scores.softmax(-1), values).flatten(1)
    if pooler.projection:
        y = layers.linear(y, "pooler.projection")
    if pooler.residual:
        y = weights["pooler.residual"] + y
    return y + layers.mlp(layers.norm(y, "pooler.norm2"), "pooler.") if pooler.hidden else y
