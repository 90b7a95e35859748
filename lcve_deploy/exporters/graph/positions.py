"""Positions in the attention: tables that rotate queries and keys, and tables that are added to the scores.

The tables of each clip are those of its key. They are gathered once, for all blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.model.shapes import RELATIVE_INDEX, ROTARY_COS, ROTARY_SIN
from lcve_deploy.model.transformer import TransformerConfig

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["RelativeBias", "Rotation"]


class Rotation:
    """Rotates the heads of queries and keys: ``x · cos + swap(x) · sin``, where swap exchanges the halves of a head.

    Args:
        nodes: nodes of the graph.
        config: configuration of the model.
    """

    def __init__(self, nodes: Nodes, config: TransformerConfig) -> None:
        self._nodes, self._rotary = nodes, config.rotary
        self._tables: tuple[ir.Value, ir.Value] | None = None

    def __call__(self, x: ir.Value) -> ir.Value:
        """Return queries or keys ``[batch, tokens, heads, head width]`` in their positions."""
        if not self._rotary:
            return x
        nodes = self._nodes
        if self._tables is None:
            self._tables = self._table(ROTARY_COS), self._table(ROTARY_SIN)
        cos, sin = self._tables
        first, second = nodes.split(x, 2)
        swapped = nodes.op("Concat", second, first, axis=-1)
        return nodes.op("Add", nodes.op("Mul", x, cos), nodes.op("Mul", swapped, sin))

    def _table(self, name: str) -> ir.Value:
        """Return a table of each clip, the same for all heads: ``[batch, tokens, 1, head width]``."""
        return self._nodes.op("Unsqueeze", self._nodes.keyed(name), self._nodes.ints((2,)))


class RelativeBias:
    """Looks up what is added to the scores, by the relative position of query and key.

    Args:
        nodes: nodes of the graph.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._index: ir.Value | None = None
        self._shared: dict[int, tuple[npt.NDArray[Any], ir.Value]] = {}

    def __call__(self, name: str) -> ir.Value:
        """Return the bias of each clip, ``[batch, heads, tokens, tokens]``. Blocks that share a table share it."""
        table = self._nodes.weights[name]
        if id(table) not in self._shared:
            self._shared[id(table)] = table, self._look_up(name)  # with the table, so that its id stays its own
        return self._shared[id(table)][1]

    def _look_up(self, name: str) -> ir.Value:
        nodes = self._nodes
        if self._index is None:
            self._index = nodes.keyed(RELATIVE_INDEX)
        found = nodes.op("Gather", nodes.weight(name), self._index, axis=0)  # all heads at once: rows are copied fast
        return nodes.op("Transpose", found, perm=[0, 3, 1, 2])
