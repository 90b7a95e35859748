"""The blocks of an encoder: attention and MLP, each added to its input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lcve_deploy.exporters.graph.attention import SelfAttention
from lcve_deploy.exporters.graph.mlp import mlp
from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.model.transformer import TransformerConfig

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Blocks"]


class Blocks:
    """Blocks of one configuration.

    Args:
        nodes: nodes of the graph.
        config: configuration of the blocks.
    """

    def __init__(self, nodes: Nodes, config: TransformerConfig) -> None:
        self._nodes, self._config = nodes, config
        self._attention = SelfAttention(nodes, config)

    def __call__(self, x: ir.Value, prefix: str, depth: int) -> ir.Value:
        """Return the tokens after all blocks; the weights of block i begin with the prefix and i."""
        for i in range(depth):
            x = self._block(x, f"{prefix}{i}.")
        return x

    def _block(self, x: ir.Value, block: str) -> ir.Value:
        nodes, config = self._nodes, self._config
        attended = self._attention(self._norm(x, f"{block}norm1"), block)
        x = nodes.op("Add", x, self._branch(attended, f"{block}scale1"))
        mixed = mlp(nodes, self._norm(x, f"{block}norm2"), block, config)
        return nodes.op("Add", x, self._branch(mixed, f"{block}scale2"))

    def _norm(self, x: ir.Value, name: str) -> ir.Value:
        return self._nodes.norm(x, name, kind=self._config.norm, eps=self._config.block_eps)

    def _branch(self, x: ir.Value, name: str) -> ir.Value:
        return self._nodes.op("Mul", x, self._nodes.weight(name)) if self._config.layer_scale else x
