"""From encrypted clips to tokens: cubes, their embedding, prefix tokens, and the table of positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lcve_deploy.clips import Layout
from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import TransformerConfig

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["cubes_of", "tokens_of"]


def tokens_of(nodes: Nodes, clips: Sequence[ir.Value], config: TransformerConfig, *, layout: Layout) -> ir.Value:
    """Return the input of the first block: ``[batch, tokens, width]``.

    Args:
        nodes: of the graph.
        clips: clips, and in the scheme ``lcve-dct-1`` their steps.
        config: of the model.
        layout: layout of encrypted clips.
    """
    values = nodes.op("Cast", clips[0], to=_float())  # comes first: TensorRT supports no other operator on uint8
    if layout is Layout.VIDEO:
        values = _patchify(nodes, values, config.geometry)
    product = nodes.op("MatMul", values, nodes.keyed("cube_embedding.weight"))
    for step in clips[1:]:  # after the product, whose clips are then integers, which are exact in any precision
        product = nodes.op("Mul", product, nodes.reshape(step, (-1, 1, 1)))
    x = nodes.op("Add", product, nodes.weight("cube_embedding.bias"))
    if config.prefix:
        x = nodes.op("Concat", nodes.repeat("prefix_tokens", (config.prefix, config.width), x), x, axis=1)
    if config.positions:
        x = nodes.op("Add", x, nodes.keyed("positional_encoding"))
    return nodes.norm(x, "norm_pre", kind=config.norm, eps=config.block_eps) if config.embedding_norm else x


def cubes_of(nodes: Nodes, x: ir.Value, config: TransformerConfig) -> ir.Value:
    """Return the tokens of the cubes, without prefix tokens."""
    if not config.prefix:
        return x
    return nodes.op("Slice", x, nodes.ints((config.prefix,)), nodes.ints((config.tokens,)), nodes.ints((1,)))


def _patchify(nodes: Nodes, clips: ir.Value, geometry: ClipGeometry) -> ir.Value:
    """Reshape clips ``[batch, T, H, W, C]`` to cubes ``[batch, N, L]``."""
    (nt, nh, nw), (t, h, w) = geometry.grid, geometry.cube
    split = nodes.reshape(clips, (0, nt, t, nh, h, nw, w, geometry.channels))
    grouped = nodes.op("Transpose", split, perm=[0, 1, 3, 5, 2, 4, 6, 7])
    return nodes.reshape(grouped, (0, geometry.cubes, geometry.values))


def _float() -> int:
    import onnx_ir as ir

    return int(ir.DataType.FLOAT)
