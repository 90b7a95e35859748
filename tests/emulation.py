"""What a strongly typed graph answers on hardware of its type, computed here.

Few CPUs multiply in bf16 and fewer in fp16, and some engines compute such a graph in float32, which flatters it.
Here every low value is computed in float32 from its low inputs and then rounded, as matrix units do
that add up in float32.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime

LOW = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def emulated(path: Path) -> onnxruntime.InferenceSession:
    """A session of a typed graph that rounds wherever the graph says so."""
    model = ir.load(path)
    low = {value: value.dtype for value in model.graph.initializers.values() if value.dtype in LOW}
    for value in low:
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy().astype(np.float32), name=value.name)
        value.type = ir.TensorType(ir.DataType.FLOAT)
    for node in tuple(model.graph):
        kind = _kind(node, low)
        if kind in LOW:
            low |= {_rounded(model.graph, node, output, kind): kind for output in tuple(node.outputs)}
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it must keep every Cast
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    data = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _kind(node: ir.Node, low: dict[ir.Value, ir.DataType]) -> ir.DataType | None:
    if node.op_type == "Cast":
        return ir.DataType(node.attributes["to"].as_int())
    return next((low[value] for value in node.inputs if value in low), None)


def _rounded(graph: ir.Graph, node: ir.Node, output: ir.Value, kind: ir.DataType) -> ir.Value:
    """The output, rounded to the low type and back, in place of itself."""
    uses = tuple(output.uses())
    down = node if node.op_type == "Cast" else ir.node("Cast", [output], {"to": int(kind)})
    up = ir.node("Cast", down.outputs, {"to": int(ir.DataType.FLOAT)})
    graph.insert_after(node, up if down is node else (down, up))
    for use in uses:
        use.node.replace_input_with(use.idx, up.outputs[0])
    return up.outputs[0]
