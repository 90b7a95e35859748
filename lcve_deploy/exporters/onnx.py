"""Write a scrambled model as an ONNX graph, built node by node.

The graph is built here instead of traced from PyTorch, for three reasons. Parity compares two independently written
forward passes. The file has no trace of its origin: no stack, path, doc string or source name. And keyed tensors are
inputs, so no key is in the file.

Inputs: ``clips``, uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``, or in the scheme ``lcve-dct-1`` float16
``[batch, N, L]`` and then ``step``, float32 ``[batch]``; ``key``, int64 ``[batch]``, the row of the bank for each clip;
``bank.NAME``, ``[keys, ...]``, for every keyed tensor. Output: ``logits``, float32 ``[batch, classes]``,
or whatever else the model gives for each clip.
Only the batch and the number of keys are dynamic, because a key is bound to the geometry.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from lcve_deploy import __version__
from lcve_deploy.artifact.graph_files import GraphSource, read_graph
from lcve_deploy.artifact.model_spec import clip_specs
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.clips import Layout, Scheme
from lcve_deploy.exporters.bank import KEY_SPEC, bank_specs, graph_input
from lcve_deploy.exporters.graph.blocks import Blocks
from lcve_deploy.exporters.graph.nodes import Nodes
from lcve_deploy.exporters.graph.pooling import output_of
from lcve_deploy.exporters.graph.tokens import tokens_of
from lcve_deploy.exporters.storage import Steps, parse_model, save_graph
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.model.transformer import ScrambledTransformer

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DEFAULT_OPSET", "OPSETS", "read_heads", "write_onnx"]

OPSETS: Final = range(18, 24)
DEFAULT_OPSET: Final = 20


_IR_VERSION: Final = 10
_HEADS: Final = "attention_heads"


def write_onnx(
    model: ScrambledTransformer,
    path: Path,
    *,
    layout: Layout,
    scheme: str = Scheme.LCVE,
    opset: int = DEFAULT_OPSET,
    steps: Steps | None = None,
) -> None:
    """Write ``model.onnx``, and for a large model ``model.onnx.data``. The file is the same for every key.

    Args:
        model: scrambled model.
        path: file to write, in a folder that is being staged.
        layout: layout of encrypted clips.
        scheme: scheme of encrypted clips, for which the model is scrambled.
        opset: version of the ONNX operators, one of ``OPSETS``.
        steps: called with the number of large tensors written and their total.

    Raises:
        ValueError: the opset is not one of ``OPSETS``.
    """
    import onnx_ir as ir

    if opset not in OPSETS:
        raise ValueError(f"expected an opset from {OPSETS.start} to {OPSETS.stop - 1}, received {opset}")
    graph = _graph(model, layout=layout, scheme=scheme, opset=opset)
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


def _graph(model: ScrambledTransformer, *, layout: Layout, scheme: str, opset: int) -> ir.Graph:
    import onnx_ir as ir

    config, key = model.config, graph_input(KEY_SPEC)
    bank = {spec.name.removeprefix(BANK_PREFIX): graph_input(spec) for spec in bank_specs(config)}
    clips = [graph_input(spec) for spec in clip_specs(scheme, config.geometry, layout)]
    nodes = Nodes(model.weights, bank=bank, key=key, opset=opset)
    x = tokens_of(nodes, clips, config, layout=layout)
    x = Blocks(nodes, config)(x, "blocks.", config.depth)
    output = output_of(nodes, x, config)
    output.name = ModelOutput.of(config).kind.value
    output.type = ir.TensorType(ir.DataType.FLOAT)
    output.shape = ir.Shape(["batch", *config.output_shape])
    return ir.Graph(
        [*clips, key, *bank.values()],
        [output],
        nodes=nodes.tape.nodes,
        initializers=nodes.tape.initializers,
        opset_imports={"": opset},
        name="encrypted_video_transformer",
    )
