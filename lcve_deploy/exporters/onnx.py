"""Write a scrambled model as an ONNX graph, built node by node.

The graph is built here instead of traced from PyTorch, for three reasons. Parity compares two independently written
forward passes. The file has no trace of its origin: no stack, path, doc string or source name. And keyed tensors are
inputs, so no key is in the file.

Inputs: ``clips``, uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``; ``key``, int64 ``[batch]``, the row of the bank
for each clip; ``bank.NAME``, ``[keys, ...]``, for every keyed tensor. Output: ``logits``, float32 ``[batch, classes]``.
Only the batch and the number of keys are dynamic, because a key is bound to the geometry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy import __version__
from lcve_deploy.artifact import TensorSpec
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.artifact.names import BANK_PREFIX, INPUT, OUTPUT
from lcve_deploy.clips import Layout
from lcve_deploy.exporters.bank import KEY_SPEC, bank_specs, graph_input
from lcve_deploy.exporters.storage import Steps, parse_model, save_graph
from lcve_deploy.model.keyed import READOUT_INDEX
from lcve_deploy.model.transformer import Activation, Attention, ScrambledTransformer, logit_scale

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DEFAULT_OPSET", "MAX_SCORES", "OPSETS", "block_sizes", "read_heads", "write_onnx"]

OPSETS: Final = range(18, 24)
DEFAULT_OPSET: Final = 20


_IR_VERSION: Final = 10
_GELU_OPSET: Final = 20
_HEADS: Final = "attention_heads"
MAX_SCORES: Final = 2**27
"""Maximum number of attention scores of a clip in one tensor: 512 MiB in float32."""

_MIN_NORM: Final = 1e-12


def write_onnx(
    model: ScrambledTransformer,
    path: Path,
    *,
    layout: Layout,
    opset: int = DEFAULT_OPSET,
    steps: Steps | None = None,
) -> None:
    """Write ``model.onnx``, and for a large model ``model.onnx.data``. The file is the same for every key.

    Args:
        model: scrambled model.
        path: file to write, in a folder that is being staged.
        layout: layout of encrypted clips.
        opset: version of the ONNX operators, one of ``OPSETS``.
        steps: called with the number of large tensors written and their total.

    Raises:
        ValueError: the opset is not one of ``OPSETS``.
    """
    import onnx_ir as ir

    if opset not in OPSETS:
        raise ValueError(f"expected an opset from {OPSETS.start} to {OPSETS.stop - 1}, received {opset}")
    graph = _Builder(model, layout=layout, opset=opset).build()
    exported = ir.Model(
        graph,
        ir_version=_IR_VERSION,
        producer_name="lcve-deploy",
        producer_version=__version__,
        metadata_props={_HEADS: str(model.config.heads)},
    )
    save_graph(exported, path, steps=steps)


def read_heads(source: GraphSource) -> int | None:
    """Return the number of attention heads of an exported graph; None if the graph does not state it.

    The graph states it because an official checkpoint does not.
    """
    text = parse_model(read_graph(source)).metadata_props.get(_HEADS, "")
    return int(text) if text.isdecimal() else None


def block_sizes(tokens: int, *, heads: int) -> tuple[int, ...]:
    """Return how many queries are computed at a time: all, unless their scores exceed ``MAX_SCORES``.

    Args:
        tokens: number of queries, and of keys.
        heads: number of attention heads.
    """
    blocks = min(tokens, math.ceil(heads * tokens**2 / MAX_SCORES))
    return tuple(len(block) for block in np.array_split(np.arange(tokens), blocks))


class _Builder:
    """Builds the nodes of one model on a tape of onnx-ir."""

    def __init__(self, model: ScrambledTransformer, *, layout: Layout, opset: int) -> None:
        from onnx_ir import tape

        self._model, self._config = model, model.config
        self._layout, self._opset = layout, opset
        self._tape = tape.Tape()
        self._constants: dict[str, ir.Value] = {}
        self._count = 0
        self._key = graph_input(KEY_SPEC)
        specs = bank_specs(model.config)
        self._bank = {spec.name.removeprefix(BANK_PREFIX): graph_input(spec) for spec in specs}

    def build(self) -> ir.Graph:
        import onnx_ir as ir

        config = self._config
        clips = graph_input(TensorSpec(name=INPUT, dtype="uint8", shape=(None, *self._layout.shape(config.geometry))))
        x = self._embed(clips)
        for i in range(config.depth):
            x = self._block(x, f"blocks.{i}.")
        logits = self._classify(x)
        logits.name = OUTPUT
        logits.type = ir.TensorType(ir.DataType.FLOAT)
        logits.shape = ir.Shape(["batch", config.classes])
        return ir.Graph(
            [clips, self._key, *self._bank.values()],
            [logits],
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports={"": self._opset},
            name="encrypted_video_transformer",
        )

    def _embed(self, clips: ir.Value) -> ir.Value:
        values = self._op("Cast", clips, to=_float())  # comes first: TensorRT supports no other operator on uint8
        if self._layout is Layout.VIDEO:
            values = self._patchify(values)
        product = self._op("MatMul", values, self._keyed("cube_embedding.weight"))
        x = self._op("Add", product, self._weight("cube_embedding.bias"))
        if self._config.prefix:
            x = self._op("Concat", self._prefix_of(x), x, axis=1)
        return self._op("Add", x, self._keyed("positional_encoding"))

    def _patchify(self, clips: ir.Value) -> ir.Value:
        """Reshape clips ``[batch, T, H, W, C]`` to cubes ``[batch, N, L]``."""
        geometry = self._config.geometry
        (nt, nh, nw), (t, h, w) = geometry.grid, geometry.cube
        split = self._reshape(clips, (0, nt, t, nh, h, nw, w, geometry.channels))
        grouped = self._op("Transpose", split, perm=[0, 1, 3, 5, 2, 4, 6, 7])
        return self._reshape(grouped, (0, geometry.cubes, geometry.values))

    def _prefix_of(self, x: ir.Value) -> ir.Value:
        """Repeat the prefix tokens for every clip of the batch."""
        batch = self._op("Shape", x, start=0, end=1)
        rest = self._ints((self._config.prefix, self._config.width))
        return self._op("Expand", self._weight("prefix_tokens"), self._op("Concat", batch, rest, axis=0))

    def _block(self, x: ir.Value, block: str) -> ir.Value:
        attended = self._attention(self._norm(x, f"{block}norm1", self._config.block_eps), block)
        x = self._op("Add", x, self._branch(attended, f"{block}scale1"))
        mixed = self._mlp(self._norm(x, f"{block}norm2", self._config.block_eps), block)
        return self._op("Add", x, self._branch(mixed, f"{block}scale2"))

    def _attention(self, x: ir.Value, block: str) -> ir.Value:
        config = self._config
        cosine = config.attention is Attention.COSINE
        qkv = self._linear(x, f"{block}attention.qkv", change=None if cosine else self._scale_queries)
        parts, key_part, value_part = self._split(qkv)
        queries = [self._heads(part) for part in self._blocks(parts)]
        keys, values = self._heads(key_part), self._heads(value_part)
        if cosine:
            scale = logit_scale(self._model.weights[f"{block}attention.log_scale"]).reshape(1, -1, 1, 1)
            learned = self._constant(f"{block}attention.scale", scale.astype(np.float32))
            queries, keys = [self._op("Mul", self._unit(part), learned) for part in queries], self._unit(keys)
        turned = self._op("Transpose", keys, perm=[0, 1, 3, 2])
        mixed = [self._mix(part, turned, values) for part in queries]
        joined = mixed[0] if len(mixed) == 1 else self._op("Concat", *mixed, axis=1)
        return self._linear(joined, f"{block}attention.projection")

    def _mix(self, queries: ir.Value, turned_keys: ir.Value, values: ir.Value) -> ir.Value:
        """Mix the values for every query: ``[batch, queries, width]``."""
        scores = self._op("MatMul", queries, turned_keys)
        mixed = self._op("MatMul", self._op("Softmax", scores, axis=-1), values)
        return self._reshape(self._op("Transpose", mixed, perm=[0, 2, 1, 3]), (0, 0, self._config.width))

    def _blocks(self, queries: ir.Value) -> Sequence[ir.Value]:
        """Divide the queries of a long clip, whose scores would not fit into memory at once."""
        sizes = block_sizes(self._config.tokens, heads=self._config.heads)
        if len(sizes) == 1:
            return [queries]
        self._count += 1
        return self._tape.op_multi_out(
            "Split", [queries, self._ints(sizes)], {"axis": 1}, num_outputs=len(sizes), name=f"Split_{self._count}"
        )

    def _scale_queries(self, array: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Scale the rows of the queries by 1/√(head width); scaling weights is cheaper than scaling tokens."""
        scaled = array.astype(np.float64)
        scaled[: self._config.width] *= self._config.head_width**-0.5
        return scaled

    def _heads(self, x: ir.Value) -> ir.Value:
        split = self._reshape(x, (0, 0, self._config.heads, self._config.head_width))
        return self._op("Transpose", split, perm=[0, 2, 1, 3])

    def _unit(self, x: ir.Value) -> ir.Value:
        length = self._op("ReduceL2", x, self._ints((-1,)), keepdims=1)
        minimum = self._constant("norm_floor", np.array(_MIN_NORM, np.float32))
        return self._op("Div", x, self._op("Max", length, minimum))

    def _mlp(self, x: ir.Value, block: str) -> ir.Value:
        return self._linear(self._activate(self._linear(x, f"{block}mlp.fc1")), f"{block}mlp.fc2")

    def _activate(self, x: ir.Value) -> ir.Value:
        match self._config.activation:
            case Activation.GELU:
                return self._gelu(x)
            case Activation.GELU_TANH:
                return self._gelu_tanh(x)
            case Activation.QUICK_GELU:
                return self._op("Mul", x, self._op("Sigmoid", self._op("Mul", x, self._scalar(1.702))))
            case Activation.RELU:
                return self._op("Relu", x)
            case Activation.SILU:
                return self._op("Mul", x, self._op("Sigmoid", x))

    def _gelu(self, x: ir.Value) -> ir.Value:
        if self._opset >= _GELU_OPSET:
            return self._op("Gelu", x)
        erf = self._op("Erf", self._op("Div", x, self._scalar(2**0.5)))
        return self._op("Mul", self._op("Mul", x, self._op("Add", erf, self._scalar(1.0))), self._scalar(0.5))

    def _gelu_tanh(self, x: ir.Value) -> ir.Value:
        if self._opset >= _GELU_OPSET:
            return self._op("Gelu", x, approximate="tanh")
        cube = self._op("Mul", self._op("Mul", self._op("Mul", x, x), x), self._scalar(0.044715))
        inner = self._op("Mul", self._op("Add", x, cube), self._scalar((2 / np.pi) ** 0.5))
        tanh = self._op("Add", self._op("Tanh", inner), self._scalar(1.0))
        return self._op("Mul", self._op("Mul", x, tanh), self._scalar(0.5))

    def _branch(self, x: ir.Value, name: str) -> ir.Value:
        return self._op("Mul", x, self._weight(name)) if self._config.layer_scale else x

    def _classify(self, x: ir.Value) -> ir.Value:
        if READOUT_INDEX in self._bank:
            index = self._op("Unsqueeze", self._keyed(READOUT_INDEX), self._ints((1,)))
            pooled = self._op("GatherND", x, index, batch_dims=1)
        else:
            pooled = self._op("ReduceMean", self._cubes_of(x), self._ints((1,)), keepdims=0)
        normed = self._norm(pooled, "norm", self._config.final_eps)
        rows = self._op("Unsqueeze", normed, self._ints((1,)))  # one row for each clip, because each has a weight
        product = self._op("Squeeze", self._op("MatMul", rows, self._keyed("head.weight")), self._ints((1,)))
        return self._op("Add", product, self._keyed("head.bias"))

    def _cubes_of(self, x: ir.Value) -> ir.Value:
        """Return the tokens of the cubes, without prefix tokens."""
        prefix = self._config.prefix
        if not prefix:
            return x
        return self._op("Slice", x, self._ints((prefix,)), self._ints((self._config.tokens,)), self._ints((1,)))

    # Helpers that do not depend on the model's configuration

    def _keyed(self, name: str) -> ir.Value:
        """Give each clip the tensor of its key: add an axis for the batch."""
        return self._op("Gather", self._bank[name], self._key, axis=0)

    def _norm(self, x: ir.Value, name: str, eps: float) -> ir.Value:
        weight, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._op("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def _linear(self, x: ir.Value, name: str, change: _Change | None = None) -> ir.Value:
        product = self._op("MatMul", x, self._weight(f"{name}.weight", change, transpose=True))
        if f"{name}.bias" not in self._model.weights:
            return product
        return self._op("Add", product, self._weight(f"{name}.bias", change))

    def _split(self, x: ir.Value) -> Sequence[ir.Value]:
        self._count += 1
        return self._tape.op_multi_out(
            "Split", [x], {"axis": -1, "num_outputs": 3}, num_outputs=3, name=f"Split_{self._count}"
        )

    def _reshape(self, x: ir.Value, shape: tuple[int, ...]) -> ir.Value:
        return self._op("Reshape", x, self._ints(shape))

    def _op(self, kind: str, *inputs: ir.Value, **attributes: Any) -> ir.Value:
        self._count += 1
        return self._tape.op(kind, inputs, attributes, name=f"{kind}_{self._count}")

    def _weight(self, name: str, change: _Change | None = None, *, transpose: bool = False) -> ir.Value:
        """Add a weight as float32. It is converted only while it is written, so one copy at a time is in memory."""
        import onnx_ir as ir

        array = self._model.weights[name]

        def make() -> ir.TensorProtocol:
            changed = change(array) if change else array
            return ir.Tensor(np.ascontiguousarray(changed.T if transpose else changed, np.float32), name=name)

        shape = ir.Shape(array.shape[::-1] if transpose else array.shape)
        return self._tape.initializer(ir.LazyTensor(make, dtype=ir.DataType.FLOAT, shape=shape, name=name), name)

    def _ints(self, values: tuple[int, ...]) -> ir.Value:
        return self._constant("shape_" + "_".join(map(str, values)).replace("-", "m"), np.array(values, np.int64))

    def _scalar(self, value: float) -> ir.Value:
        return self._constant(f"scalar_{value:.6g}", np.array(value, np.float32))

    def _constant(self, name: str, array: npt.NDArray[Any]) -> ir.Value:
        import onnx_ir as ir

        if name not in self._constants:
            self._constants[name] = self._tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[name]


_Change = Callable[[npt.NDArray[np.floating]], npt.NDArray[np.floating]]


def _float() -> int:
    import onnx_ir as ir

    return int(ir.DataType.FLOAT)
