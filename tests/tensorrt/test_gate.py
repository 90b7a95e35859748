"""The gate: every exported graph passes the parser, and nothing else does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest

from lcve_deploy import (
    Layout,
)
from lcve_deploy.errors import ArtifactError, BuildError
from lcve_deploy.exporters.onnx import OPSETS
from lcve_deploy.exporters.tensorrt import (
    build_plan,
    check_graph,
)
from lcve_deploy.libraries.tensorrt import (
    TENSORRT_RTX,
    TensorRT,
)
from tests.conftest import ORACLES, Oracle
from tests.tensorrt.helpers import (
    Graph,
    oracle_graph,
)


@pytest.fixture
def changed(tiny: Graph) -> Callable[[Callable[[onnx_ir.Model], None]], Graph]:
    """The tiny graph after a change."""

    def change(edit: Callable[[onnx_ir.Model], None]) -> Graph:
        model = onnx_ir.load(tiny.model)
        edit(model)
        path = tiny.model.with_name("changed.onnx")
        onnx_ir.save(model, path)
        return dataclasses.replace(tiny, model=path)

    return change


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("opset", [OPSETS.start, 20, OPSETS.stop - 1])
@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES)
def test_every_exported_graph_passes_the_gate(
    oracle: Oracle, opset: int, layout: Layout, rtx: TensorRT, tmp_path: Path
) -> None:
    graph = oracle_graph(oracle, tmp_path, opset=opset, layout=layout)
    check_graph(graph.model, library=rtx, spec=graph.spec)


def as_double(tensor: onnx_ir.TensorProtocol | None) -> onnx_ir.TensorProtocol:
    assert tensor is not None
    return onnx_ir.tensor(tensor.numpy().astype(np.float64), name=tensor.name)


def double_initializer(model: onnx_ir.Model) -> None:
    value = model.graph.initializers["norm.weight"]
    value.const_value = as_double(value.const_value)


def double_cast(model: onnx_ir.Model) -> None:
    cast = next(node for node in model.graph if node.op_type == "Cast")
    cast.attributes["to"] = onnx_ir.AttrInt64("to", int(onnx_ir.DataType.DOUBLE))


def double_constant(model: onnx_ir.Model) -> None:
    tensor = onnx_ir.tensor(np.array([1.0], np.float64))
    model.graph.insert_before(model.graph[0], onnx_ir.node("Constant", [], {"value": tensor}, name="one"))


def double_value(model: onnx_ir.Model) -> None:
    next(node for node in model.graph if node.op_type == "MatMul").outputs[0].dtype = onnx_ir.DataType.DOUBLE


def double_in_a_branch(model: onnx_ir.Model) -> None:
    tensor = onnx_ir.tensor(np.array([1.0], np.float64))
    inner = onnx_ir.node("Constant", [], {"value": tensor}, name="one")
    branch = onnx_ir.Graph([], list(inner.outputs), nodes=[inner], name="branch")
    truth = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(np.array(True))}, name="truth")
    choice = onnx_ir.node("If", list(truth.outputs), {"then_branch": branch, "else_branch": branch.clone()})
    for node in (truth, choice):
        model.graph.insert_before(model.graph[0], node)


DOUBLES: dict[Callable[[onnx_ir.Model], None], str] = {
    double_initializer: "initializer norm.weight",
    double_cast: "Cast Cast_1 (to)",
    double_constant: "Constant one (value)",
    double_value: "value ",
    double_in_a_branch: "Constant one (value)",
}


@pytest.mark.parametrize("edit", DOUBLES, ids=lambda edit: edit.__name__)
def test_the_gate_refuses_float64_wherever_it_is(
    edit: Callable[[onnx_ir.Model], None], changed: Callable[..., Graph], rtx: TensorRT
) -> None:
    graph = changed(edit)
    with pytest.raises(BuildError, match="has float64, which TensorRT does not support") as caught:
        check_graph(graph.model, library=rtx, spec=graph.spec)
    assert DOUBLES[edit] in str(caught.value)


def test_the_parser_alone_takes_float64(changed: Callable[..., Graph], rtx: TensorRT) -> None:
    """Why the gate looks for it: should this fail one day, the parser has learned to."""
    graph = changed(double_constant)
    network = rtx.module.Builder(rtx.log.logger).create_network(0)
    assert rtx.module.OnnxParser(network, rtx.log.logger).parse_from_file(str(graph.model))


@pytest.mark.parametrize(
    ("which", "change", "says"),
    [
        ("input", {"name": "frames"}, "expected the inputs frames uint8 "),
        ("input", {"dtype": "float32"}, "expected the inputs clips float32 "),
        ("input", {"shape": (None, 64, 383)}, "received clips uint8 [batch, 64, 384]"),
        ("input", {"shape": (1, 64, 384)}, "[1, 64, 384]"),
        ("output", {"name": "scores"}, "expected the outputs scores float32 "),
        ("output", {"dtype": "float16"}, "expected the outputs logits float16 "),
        ("output", {"shape": (None, 6)}, "received logits float32 [batch, 5]"),
    ],
)
def test_the_gate_refuses_other_names_types_and_shapes(
    which: str, change: dict[str, Any], says: str, tiny: Graph, rtx: TensorRT
) -> None:
    spec = dataclasses.replace(tiny.spec, **{which: dataclasses.replace(getattr(tiny.spec, which), **change)})
    with pytest.raises(BuildError) as caught:
        check_graph(tiny.model, library=rtx, spec=spec)
    assert says in str(caught.value)


def test_the_gate_names_the_node_that_the_parser_refuses(changed: Callable[..., Graph], rtx: TensorRT) -> None:
    def invent(model: onnx_ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Softmax")
        node.op_type = "Softestmax"

    graph = changed(invent)
    with pytest.raises(BuildError, match="cannot parse") as caught:
        check_graph(graph.model, library=rtx, spec=graph.spec)
    assert "Softestmax" in str(caught.value)
    assert str(rtx) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing of a graph" * 20])
def test_the_gate_refuses_what_is_no_graph(content: bytes, tiny: Graph, rtx: TensorRT) -> None:
    tiny.model.write_bytes(content)
    with pytest.raises(ArtifactError, match="cannot be used as an ONNX graph"):
        check_graph(tiny.model, library=rtx, spec=tiny.spec)


def test_the_gate_refuses_a_graph_that_is_not_there(tiny: Graph, rtx: TensorRT) -> None:
    tiny.model.unlink()
    with pytest.raises(ArtifactError, match="is missing"):
        check_graph(tiny.model, library=rtx, spec=tiny.spec)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda bank: bank[1:], "expected the inputs clips uint8 [batch, 64, 384], key int64 [batch], bank.pos"),
        (lambda bank: bank[::-1], "received clips uint8 [batch, 64, 384], key int64 [batch], bank.cube_emb"),
        (lambda bank: (dataclasses.replace(bank[0], dtype="float16"), *bank[1:]), "float16 [keys, 384, 48]"),
    ],
)
def test_the_gate_refuses_another_bank(change: Callable[[Any], Any], says: str, tiny: Graph, rtx: TensorRT) -> None:
    spec = dataclasses.replace(tiny.spec, bank=change(tiny.spec.bank))
    with pytest.raises(BuildError) as caught:
        check_graph(tiny.model, library=rtx, spec=spec)
    assert says in str(caught.value)


def test_external_data_in_two_files_is_read(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    model = onnx_ir.load(tiny.model)
    large = [v for v in model.graph.initializers.values() if v.const_value is not None and v.const_value.size > 8]
    for name, values in {"one.data": large[::2], "two.data": large[1::2]}.items():
        tensors = [value.const_value for value in values if value.const_value is not None]
        moved = onnx_ir.external_data.convert_tensors_to_external(tensors, tmp_path, name)
        for value, tensor in zip(values, moved, strict=True):
            value.const_value = tensor
    onnx_ir.save(model, tmp_path / "two.onnx")
    raw = onnx.load(tmp_path / "two.onnx", load_external_data=False)
    files = {entry.value for t in raw.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert files == {"one.data", "two.data"}
    built = build_plan(tmp_path / "two.onnx", tmp_path / "plan", library=rtx, spec=tiny.spec)
    assert (tmp_path / "plan").stat().st_size > (tmp_path / "two.data").stat().st_size
    assert built.builder == {TENSORRT_RTX: rtx.version}
