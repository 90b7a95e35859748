"""Convert the blocks' linear layers of the canonical graph to int8, with QuantizeLinear and DequantizeLinear.

Activations are quantised per tensor and weights per output channel, both symmetrically, which all engines support.
Weights stay small enough for CPUs that add products in 16 bits. Activation ranges are measured on encrypted clips: a
permutation of the tokens does not change the largest value. So no plain clips are needed, and the ranges hold for
every key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.artifact.names import BANK_PREFIX, INPUT, KEY_INPUT, STEP_INPUT
from lcve_deploy.clips import COEFFICIENTS, STEP
from lcve_deploy.errors import PrecisionError
from lcve_deploy.exporters.initializers import initializer
from lcve_deploy.exporters.storage import Steps, load_graph, parse_model, require_onnx_ir, save_graph
from lcve_deploy.libraries.onnxruntime import give_files, load_onnxruntime

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["calibrate", "write_quantised"]

_MAX_INT8: Final = 127
"""Largest quantised value of an activation, and of a sum of two neighbouring weights of the same sign.

CPUs without VNNI multiply unsigned activations, up to 255, by signed weights, and add two neighbouring products in 16
bits, which saturates silently. Sums of at most 128 avoid this: 127 before rounding is at most 128 after both weights
are rounded.
"""

_WEIGHT: Final = ".weight"
_BLOCKS: Final = "blocks."
"""Part of the names of the weights of all blocks, of the encoder and of a pooler."""

Floats = npt.NDArray[np.float32]


def calibrate(
    source: GraphSource,
    clips: npt.NDArray[Any],
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    steps: Steps | None = None,
) -> dict[str, float]:
    """Measure the largest ``|input|`` of every linear layer of the blocks, over all clips.

    Args:
        source: ``model.onnx`` of an artifact, with its data next to it.
        clips: encrypted clips, uint8 ``[clips, N, L]`` or ``[clips, T, H, W, C]``, or records ``[clips]``; they are run
            one at a time.
        tensors: keyed tensors of the clips' key, by name.
        steps: called with the number of clips done and their total.

    Returns:
        Largest absolute input by name of the layer, such as ``blocks.0.mlp.fc1``.

    Raises:
        ValueError: there are no clips.
        PrecisionError: the input of a layer is not finite.
        MissingDependencyError: ONNX Runtime or onnx-ir is not installed.
    """
    if not len(clips):
        raise ValueError("expected at least one clip to calibrate on, received none")
    names, session = _measuring_session(source)
    largest = np.zeros(len(names), np.float32)
    bank = {f"{BANK_PREFIX}{name}": tensor[None] for name, tensor in tensors.items()}
    bank[KEY_INPUT] = np.zeros(1, np.int64)
    for done in range(1, len(clips) + 1):
        feed = {**_inputs(clips[done - 1 : done]), **bank}
        largest = np.maximum(largest, np.array(session.run(None, feed), np.float32))
        if steps:
            steps(done, len(clips))
    return _checked({name: float(value) for name, value in zip(names, largest, strict=True)})


def write_quantised(
    source: GraphSource, target: Path, ranges: Mapping[str, float], *, steps: Steps | None = None
) -> None:
    """Write a graph with int8 linear layers and its data.

    Args:
        source: ``model.onnx`` of an artifact, with its data next to it.
        target: file to write, in another folder that is being staged.
        ranges: ranges that ``calibrate`` measured on this model.
        steps: called with the number of large tensors written and their total.

    Raises:
        MissingDependencyError: onnx-ir is not installed.
        PrecisionError: the ranges belong to another model, or are not finite.
    """
    model = load_graph(source)
    layers = dict(_linear_layers(model.graph))
    if set(layers) != set(ranges):
        raise PrecisionError(
            f"expected ranges for the {len(layers)} linear layers of the model, received {len(ranges)}, of which "
            f"{len(set(layers) & set(ranges))} belong to it",
            hint="calibrate again with this model",
        )
    for name, product in layers.items():
        _quantise(model.graph, name, product, _checked(dict(ranges))[name])
    save_graph(model, target, steps=steps)


def _linear_layers(graph: ir.Graph) -> Iterator[tuple[str, ir.Node]]:
    """Yield every matrix product of a block with a weight of the model, with the name of its layer.

    Keyed weights are not among them: they are inputs, and their products stay float32. So do the layers of a readout:
    they compute one vector for each clip, which costs little and of which calibration sees few.
    """
    for node in graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.is_initializer() and _BLOCKS in str(weight.name):
            yield str(weight.name).removesuffix(_WEIGHT), node


# Calibration


def _measuring_session(source: GraphSource) -> tuple[list[str], Any]:
    """Return the names of the layers, and a session whose outputs are their largest ``|input|``, in the same order."""
    onnxruntime = load_onnxruntime("calibration")
    require_onnx_ir()
    import onnx_ir as ir

    files = read_graph(source)
    model = parse_model(files)
    layers = dict(_linear_layers(model.graph))
    model.graph.outputs[:] = [_largest(model.graph, name, product) for name, product in layers.items()]
    options = onnxruntime.SessionOptions()
    give_files(options, files.contents())
    graph = ir.to_proto(model).SerializeToString()
    return list(layers), onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _inputs(clips: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Return clips by the inputs of the graph."""
    if clips.dtype.names is None:
        return {INPUT: clips}
    return {INPUT: np.ascontiguousarray(clips[COEFFICIENTS]), STEP_INPUT: np.ascontiguousarray(clips[STEP])}


def _largest(graph: ir.Graph, name: str, product: ir.Node) -> ir.Value:
    import onnx_ir as ir

    absolute = ir.node("Abs", [product.inputs[0]], name=f"Abs_{name}")
    largest = ir.node("ReduceMax", absolute.outputs, {"keepdims": 0}, name=f"ReduceMax_{name}")
    absolute.outputs[0].name, largest.outputs[0].name = f"{name}.absolute", f"{name}.largest"
    largest.outputs[0].type, largest.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    graph.insert_before(product, (absolute, largest))
    return largest.outputs[0]


def _checked(ranges: dict[str, float]) -> dict[str, float]:
    wrong = [name for name, value in ranges.items() if not np.isfinite(value) or value < 0]
    if wrong:
        raise PrecisionError(f"expected finite ranges, received {ranges[wrong[0]]} for {wrong[0]}")
    return ranges


# Quantisation


def _quantise(graph: ir.Graph, name: str, product: ir.Node, largest: float) -> None:
    """Insert QuantizeLinear and DequantizeLinear before both inputs of a product."""
    x, weight = product.inputs
    if x is None or weight is None or weight.const_value is None:
        return
    scale = initializer(graph, f"{name}.input_scale", np.array(_scale(largest), np.float32))
    zero = initializer(graph, "zero_point", np.array(0, np.int8))
    product.replace_input_with(0, _through_int8(graph, product, x, scale, zero))
    product.replace_input_with(1, _through_int8_weight(graph, product, name, weight))


def _scale(largest: float | Floats) -> Any:
    """Return the quantisation scale: size of one step; 1 if all values are zero, because a scale must not be zero."""
    return np.where(np.asarray(largest) > 0, np.asarray(largest, np.float32) / _MAX_INT8, np.float32(1))


def _largest_of_pairs(weight: Floats) -> Floats:
    """Return the largest ``|sum|`` of the weights of two neighbouring inputs with the same sign, for each output.

    It is at least the largest ``|weight|``.

    Args:
        weight: weight ``[in, out]``.
    """
    even, odd = weight[::2], weight[1::2]
    if len(even) > len(odd):
        odd = np.concatenate([odd, np.zeros_like(weight[:1])])
    sums = (np.maximum(sign * even, 0) + np.maximum(sign * odd, 0) for sign in (1, -1))
    largest: Floats = np.maximum(*(of_one_sign.max(axis=0) for of_one_sign in sums))
    return largest


def _through_int8(graph: ir.Graph, before: ir.Node, x: ir.Value, scale: ir.Value, zero: ir.Value) -> ir.Value:
    import onnx_ir as ir

    rounded = ir.node("QuantizeLinear", [x, scale, zero], name=f"QuantizeLinear_{x.name}")
    restored = ir.node("DequantizeLinear", [*rounded.outputs, scale, zero], name=f"DequantizeLinear_{x.name}")
    rounded.outputs[0].name, restored.outputs[0].name = f"{x.name}_int8", f"{x.name}_restored"
    graph.insert_before(before, (rounded, restored))
    return restored.outputs[0]


def _through_int8_weight(graph: ir.Graph, before: ir.Node, name: str, weight: ir.Value) -> ir.Value:
    """Quantise a weight ``[in, out]`` with one scale per output, and return the node that restores it.

    Its values are converted only while they are written.
    """
    import onnx_ir as ir

    original = weight.const_value
    if original is None:
        return weight
    array = original.numpy()
    scales = _scale(_largest_of_pairs(array))

    def make() -> ir.TensorProtocol:
        return ir.tensor(np.rint(original.numpy() / scales).astype(np.int8), name=weight.name)

    weight.const_value = ir.LazyTensor(make, dtype=ir.DataType.INT8, shape=ir.Shape(array.shape), name=weight.name)
    weight.type = ir.TensorType(ir.DataType.INT8)
    scale = initializer(graph, f"{name}.weight_scale", scales)
    zero = initializer(graph, f"zero_points_{len(scales)}", np.zeros(len(scales), np.int8))
    restored = ir.node("DequantizeLinear", [weight, scale, zero], {"axis": 1}, name=f"DequantizeLinear_{name}")
    restored.outputs[0].name = f"{name}.weight_restored"
    graph.insert_before(before, restored)
    return restored.outputs[0]
