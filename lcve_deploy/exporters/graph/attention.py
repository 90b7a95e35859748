"""Self-attention of a block, in blocks of queries if a clip is long.

Queries and keys are changed before they are divided into heads, and heads are divided in one way only: the pattern that
runtimes fuse is the same for every model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.exporters.graph.nodes import Change, Nodes
from lcve_deploy.exporters.graph.positions import RelativeBias, Rotation
from lcve_deploy.model.transformer import Attention, QkNorm, TransformerConfig, logit_scale

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["MAX_SCORES", "SelfAttention", "block_sizes", "heads_of", "mix"]

MAX_SCORES: Final = 2**27
"""Maximum number of attention scores of a clip in one tensor: 512 MiB in float32."""


def block_sizes(tokens: int, *, heads: int) -> tuple[int, ...]:
    """Return how many queries are computed at a time: all, unless their scores exceed ``MAX_SCORES``.

    Args:
        tokens: number of queries, and of keys.
        heads: number of attention heads.
    """
    blocks = min(tokens, math.ceil(heads * tokens**2 / MAX_SCORES))
    return tuple(len(block) for block in np.array_split(np.arange(tokens), blocks))


class SelfAttention:
    """Self-attention of all blocks of an encoder.

    Args:
        nodes: nodes of the graph.
        config: configuration of the blocks.
    """

    def __init__(self, nodes: Nodes, config: TransformerConfig) -> None:
        self._nodes, self._config = nodes, config
        self._rotation = Rotation(nodes, config)
        self._bias = RelativeBias(nodes)

    def __call__(self, x: ir.Value, block: str) -> ir.Value:
        """Return the attention of every token; ``block`` is the prefix of its weights."""
        nodes, config = self._nodes, self._config
        cosine = config.attention is Attention.COSINE
        normed = config.qk_norm is not QkNorm.NONE
        qkv = nodes.linear(x, f"{block}attention.qkv", change=None if cosine or normed else self._scale_queries)
        query_part, key_part, value_part = nodes.split(qkv, 3)
        query_part = self._placed(query_part, f"{block}attention.q_norm", self._scaled)
        key_part = self._placed(key_part, f"{block}attention.k_norm")
        queries = [self._heads(part) for part in self._blocks(query_part)]
        keys, values = self._heads(key_part), self._heads(value_part)
        if cosine:
            scale = logit_scale(nodes.weights[f"{block}attention.log_scale"]).reshape(1, -1, 1, 1)
            learned = nodes.constant(f"{block}attention.scale", scale.astype(np.float32))
            queries, keys = [nodes.op("Mul", nodes.unit(part), learned) for part in queries], nodes.unit(keys)
        turned = nodes.op("Transpose", keys, perm=[0, 1, 3, 2])
        biases = self._biases(block, len(queries))
        mixed = [
            mix(nodes, part, turned, values, width=config.width, bias=bias)
            for part, bias in zip(queries, biases, strict=True)
        ]
        joined = mixed[0] if len(mixed) == 1 else nodes.op("Concat", *mixed, axis=1)
        if config.attention_norm:
            joined = nodes.norm(joined, f"{block}attention.norm", kind=config.norm, eps=config.block_eps)
        return nodes.linear(joined, f"{block}attention.projection")

    def _heads(self, x: ir.Value) -> ir.Value:
        return heads_of(self._nodes, x, heads=self._config.heads, head_width=self._config.head_width)

    def _placed(self, x: ir.Value, norm: str, change: Change | None = None) -> ir.Value:
        """Normalise queries or keys ``[batch, tokens, width]``, and rotate them to their positions."""
        nodes, config = self._nodes, self._config
        kind, eps = config.qk_norm_kind, config.block_eps
        if config.qk_norm is QkNorm.WIDTH:
            x = nodes.norm(x, norm, kind=kind, eps=eps, change=change)
        by_head = config.qk_norm is QkNorm.HEAD
        if not by_head and not config.rotary:
            return x
        split = nodes.reshape(x, (0, 0, config.heads, config.head_width))
        if by_head:
            split = nodes.norm(split, norm, kind=kind, eps=eps, change=change)
        return nodes.reshape(self._rotation(split), (0, 0, config.width))

    def _blocks(self, queries: ir.Value) -> Sequence[ir.Value]:
        """Divide the queries of a long clip, whose scores would not fit into memory at once."""
        sizes = self._sizes()
        if len(sizes) == 1:
            return [queries]
        return self._nodes.divide(queries, self._nodes.ints(sizes), count=len(sizes), axis=1)

    def _biases(self, block: str, count: int) -> Sequence[ir.Value | None]:
        """Return what is added to the scores of each block of queries."""
        if not self._config.relative_buckets:
            return [None] * count
        bias = self._bias(f"{block}attention.relative_bias")
        if count == 1:
            return [bias]
        return self._nodes.divide(bias, self._nodes.ints(self._sizes()), count=count, axis=2)

    def _sizes(self) -> tuple[int, ...]:
        return block_sizes(self._config.tokens, heads=self._config.heads)

    def _scale_queries(self, array: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Scale the rows of the queries by 1/√(head width); scaling weights is cheaper than scaling tokens."""
        scaled = array.astype(np.float64)
        scaled[: self._config.width] *= self._config.head_width**-0.5
        return scaled

    def _scaled(self, array: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Scale the norm of the queries by 1/√(head width)."""
        scaled: npt.NDArray[np.floating] = array.astype(np.float64) * self._config.head_width**-0.5
        return scaled


def heads_of(nodes: Nodes, x: ir.Value, *, heads: int, head_width: int) -> ir.Value:
    """Divide tokens ``[batch, tokens, width]`` into heads: ``[batch, heads, tokens, head width]``."""
    split = nodes.reshape(x, (0, 0, heads, head_width))
    return nodes.op("Transpose", split, perm=[0, 2, 1, 3])


def mix(
    nodes: Nodes,
    queries: ir.Value,
    turned_keys: ir.Value,
    values: ir.Value,
    *,
    width: int,
    bias: ir.Value | None = None,
) -> ir.Value:
    """Mix the values for every query: ``[batch, queries, width]``. The bias is added to the scores."""
    scores = nodes.op("MatMul", queries, turned_keys)
    if bias is not None:
        scores = nodes.op("Add", scores, bias)
    mixed = nodes.op("MatMul", nodes.op("Softmax", scores, axis=-1), values)
    return nodes.reshape(nodes.op("Transpose", mixed, perm=[0, 2, 1, 3]), (0, 0, width))
