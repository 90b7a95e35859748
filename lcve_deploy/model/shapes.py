"""Names and shapes of the weights of a transformer.

Linear weights are ``[out, in]`` as in PyTorch, and the cube embedding is flattened to ``[D, L]``, with columns in the
order of the values of a cube.
"""

from __future__ import annotations

from typing import Final

from lcve_deploy.model.config import Attention, FinalNorm, Norm, Pooler, QkNorm, TransformerConfig

__all__ = ["RELATIVE_INDEX", "ROTARY_COS", "ROTARY_SIN", "weight_shapes"]

Shapes = dict[str, tuple[int, ...]]

ROTARY_COS: Final = "rotary.cos"
ROTARY_SIN: Final = "rotary.sin"
"""Sines with their sign: the second half of a head is added to the first one, and the first half to the second one."""
RELATIVE_INDEX: Final = "relative_position.index"
"""Entry of the table of relative positions for each query and key; the only weight that is int64."""


def weight_shapes(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight of this configuration, by name."""
    block = _block_shapes(config)
    return (
        _embedding_shapes(config)
        | _output_shapes(config)
        | ({"prefix_tokens": (config.prefix, config.width)} if config.prefix else {})
        | {f"blocks.{i}.{name}": shape for i in range(config.depth) for name, shape in block.items()}
        | (_pooler_shapes(config.pooler, config) if config.pooler else {})
    )


def _embedding_shapes(config: TransformerConfig) -> Shapes:
    width, tokens = config.width, config.tokens
    shapes: Shapes = {"cube_embedding.weight": (width, config.geometry.values), "cube_embedding.bias": (width,)}
    if config.positions:
        shapes["positional_encoding"] = (tokens, width)
    if config.rotary:
        shapes |= dict.fromkeys((ROTARY_COS, ROTARY_SIN), (tokens, config.head_width))
    if config.relative_buckets:
        shapes[RELATIVE_INDEX] = (tokens, tokens)
    return shapes | (_norm_shapes("norm_pre", width, config.norm) if config.embedding_norm else {})


def _output_shapes(config: TransformerConfig) -> Shapes:
    shapes: Shapes = {}
    if config.final_norm is not FinalNorm.NONE:
        shapes |= _norm_shapes("norm", config.width, config.norm)
    if config.projection:
        shapes |= _linear_shapes("projection", config.projection, config.pooled_width)
    if config.head:
        shapes |= _linear_shapes("head", config.classes, config.feature_width)
    return shapes


def _block_shapes(config: TransformerConfig) -> Shapes:
    """Return the shapes of one block, of the encoder or of a pooler."""
    width, kind = config.width, config.norm
    shapes = (
        _norm_shapes("norm1", width, kind)
        | _linear_shapes("attention.qkv", 3 * width, width)
        | _linear_shapes("attention.projection", width, width)
        | _mlp_shapes("", config)
    )
    if not config.qkv_bias:
        del shapes["attention.qkv.bias"]
    if config.attention is Attention.COSINE:
        shapes["attention.log_scale"] = (config.heads,)
    if config.relative_buckets:
        shapes["attention.relative_bias"] = (config.relative_buckets, config.heads)
    if config.qk_norm is not QkNorm.NONE:
        size = config.head_width if config.qk_norm is QkNorm.HEAD else width
        for name in ("attention.q_norm", "attention.k_norm"):
            shapes |= _norm_shapes(name, size, config.qk_norm_kind)
    if config.attention_norm:
        shapes |= _norm_shapes("attention.norm", width, kind)
    if config.layer_scale:
        shapes |= {"scale1": (width,), "scale2": (width,)}
    return shapes


def _pooler_shapes(pooler: Pooler, config: TransformerConfig) -> Shapes:
    width, form = config.width, config.pooler_blocks
    block = _block_shapes(form)
    shapes: Shapes = {f"pooler.blocks.{i}.{name}": shape for i in range(pooler.depth) for name, shape in block.items()}
    shapes |= {"pooler.query": (width,)} | _linear_shapes("pooler.kv", 2 * width, width)
    if pooler.input_norm:
        shapes |= _norm_shapes("pooler.norm1", width, config.norm)
    if pooler.residual:
        shapes["pooler.residual"] = (width,)
    if pooler.projection:
        shapes |= _linear_shapes("pooler.projection", width, width)
    return shapes | (_mlp_shapes("pooler.", form) if pooler.hidden else {})


def _mlp_shapes(prefix: str, config: TransformerConfig) -> Shapes:
    """Return the shapes of an MLP and of the norm before it. A gated one has the gates, then what they multiply."""
    inner = config.hidden * (2 if config.gated else 1)
    return (
        _norm_shapes(f"{prefix}norm2", config.width, config.norm)
        | _linear_shapes(f"{prefix}mlp.fc1", inner, config.width)
        | (_norm_shapes(f"{prefix}mlp.norm", config.hidden, config.norm) if config.mlp_norm else {})
        | _linear_shapes(f"{prefix}mlp.fc2", config.width, config.hidden)
    )


def _linear_shapes(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm_shapes(name: str, size: int, kind: Norm) -> Shapes:
    names = ("weight", "bias") if kind is Norm.LAYER else ("weight",)
    return {f"{name}.{part}": (size,) for part in names}
