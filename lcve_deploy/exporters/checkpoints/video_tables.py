"""Compute what video models derive from their weights: positions in one table, folded queries, rotary tables.

Source: Hugging Face transformers, ``modeling_vjepa2.py`` and ``modeling_timesformer.py``.
"""

from __future__ import annotations

import numpy as np

from lcve_deploy.exporters.checkpoints.folders import Source, Weights
from lcve_deploy.exporters.checkpoints.rotary import vjepa2_rotary, with_rotary
from lcve_deploy.exporters.checkpoints.settings import Settings
from lcve_deploy.model.transformer import TransformerConfig

__all__ = ["space_and_time", "vjepa2_query", "vjepa2_tables"]

_QUERY = "pooler.cross_attention_layer.cross_attn.q_proj."
_TABLE_AXES = 3


def space_and_time(source: Source, config: TransformerConfig) -> Source:
    """Sum TimeSformer's tables of space ``[1, 1 + places, D]`` and time ``[1, frames, D]`` for every cube.

    The class token, which comes first, has no time.
    """
    name = next((name for name in source if name.endswith("embeddings.position_embeddings")), "")
    body = name.removesuffix("position_embeddings")
    space, time = source.get(name), source.get(f"{body}time_embeddings")
    if space is None or time is None or not space.ndim == time.ndim == _TABLE_AXES:
        return source  # the error about their names or shapes comes later
    if not len(space) == len(time) == 1 or not space.size or space.shape[2] != time.shape[2]:
        return source  # the error about their names or shapes comes later
    rest = {key: array for key, array in source.items() if key not in (name, f"{body}time_embeddings")}
    cubes = space[0, None, 1:].astype(np.float64) + time[0, :, None]
    return {**rest, f"{body}positions": np.concatenate([space[0, :1], cubes.reshape(-1, config.width)])}


def vjepa2_query(source: Source, config: TransformerConfig) -> Source:
    """Project the constant query of V-JEPA 2's pooling. The query itself is also added to the result."""
    weight, bias = source.get(f"{_QUERY}weight"), source.get(f"{_QUERY}bias")
    query, width = source.get("pooler.query_tokens"), config.width
    if weight is None or bias is None or query is None:
        return source
    if weight.shape != (width, width) or bias.shape != (width,) or query.size != width:
        return source
    rest = {key: array for key, array in source.items() if not key.startswith(_QUERY)}
    projected = weight.astype(np.float64) @ query.reshape(-1).astype(np.float64) + bias
    return {**rest, "pooler.cross_attention_layer.query": projected}


def vjepa2_tables(weights: Weights, config: TransformerConfig, settings: Settings) -> Weights:
    """Add V-JEPA 2's rotary tables."""
    return dict(with_rotary(weights, config, vjepa2_rotary(config.geometry, config.head_width)))
