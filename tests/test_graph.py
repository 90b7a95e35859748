"""The exported graph by itself, compared with what the definition says and not with our reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx_ir
import pytest
from safetensors.numpy import load_file

from lcve_deploy import Layout, SecurityKey, derive_orders
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.errors import ArtifactError
from lcve_deploy.exporters.bank import bank_specs, keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.converting import split_v1
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.onnx import OPSETS, read_heads, write_onnx
from lcve_deploy.model.transformer import VideoTransformer
from tests.conftest import GEOMETRY, ORACLES, SALT

CAP = 4.6052  # as VideoMAE V2 clamps: the logarithm of 100, rounded


def model_of(name: str) -> VideoTransformer:
    oracle = ORACLES[name]
    return load_checkpoint(oracle.path, oracle.options).model


def with_log_scales(model: VideoTransformer, *scales: float) -> VideoTransformer:
    changed = {
        name: np.array(scales, dtype=values.dtype)
        for name, values in model.weights.items()
        if name.endswith("attention.log_scale")
    }
    assert len(changed) == model.config.depth
    return dataclasses.replace(model, weights={**model.weights, **changed})


def write(model: VideoTransformer, folder: Path, *, opset: int = 20) -> Path:
    folder.mkdir()
    unmoved = unscrambled(model)
    write_onnx(unmoved, folder / "bank.onnx", layout=Layout.VIDEO, opset=opset)
    embed_key(folder / "bank.onnx", keyed_tensors(unmoved), folder / "model.onnx")
    return folder / "model.onnx"


def logits_of(path: Path, clip: np.ndarray) -> np.ndarray:
    import onnxruntime

    (logits,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"clips": clip[None]})
    return np.asarray(logits[0])


def test_the_graph_caps_the_scale_of_cosine_attention(clip: np.ndarray, tmp_path: Path) -> None:
    """log_scale is at most 4.6052, head by head; what lies below the cap is kept as it is."""
    model = model_of("v2_cos")
    paths = {
        scale: write(with_log_scales(model, scale, 0.5, -1.0), tmp_path / str(scale)) for scale in (CAP, 6.0, 12.0, 4.0)
    }
    for scale, path in paths.items():
        initializers = onnx_ir.load(path).graph.initializers
        for i in range(model.config.depth):
            stored = initializers[f"blocks.{i}.attention.scale"].const_value
            assert stored is not None
            expected = np.exp([min(scale, CAP), 0.5, -1.0])
            np.testing.assert_allclose(stored.numpy().ravel(), expected, rtol=1e-6)
    answers = {scale: logits_of(path, clip) for scale, path in paths.items()}
    for above in (6.0, 12.0):
        np.testing.assert_allclose(answers[above], answers[CAP], atol=1e-6)
    assert np.abs(answers[4.0] - answers[6.0]).max() > 1e-5


@pytest.mark.parametrize("name", ["v1_module_learnable", "v2_cos", "hf_vivit"])
@pytest.mark.parametrize("opset", OPSETS)
def test_without_a_key_the_graph_is_the_original_model(name: str, opset: int, clip: np.ndarray, tmp_path: Path) -> None:
    path = write(model_of(name), tmp_path / "plain", opset=opset)
    np.testing.assert_allclose(logits_of(path, clip), ORACLES[name].logits, atol=1e-5)
    assert onnx_ir.load(path).graph.opset_imports == {"": opset}


def test_opset_20_is_the_default(tmp_path: Path) -> None:
    write_onnx(unscrambled(model_of("v1_gamma")), tmp_path / "model.onnx", layout=Layout.VIDEO)
    assert onnx_ir.load(tmp_path / "model.onnx").graph.opset_imports == {"": 20}


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", ["v1_module_learnable", "hf_vivit"])
def test_gelu_is_one_node_where_onnx_has_it(name: str, opset: int, tmp_path: Path) -> None:
    model = onnx_ir.load(write(model_of(name), tmp_path / "out", opset=opset))
    assert ("Gelu" in {node.op_type for node in model.graph}) == (opset >= 20)
    assert model.ir_version == 10


def test_a_vector_of_zeros_is_divided_by_a_small_number(tmp_path: Path) -> None:
    floor = onnx_ir.load(write(model_of("v2_cos"), tmp_path / "out")).graph.initializers["norm_floor"].const_value
    assert floor is not None
    assert floor.numpy() == np.float32(1e-12)


@pytest.mark.parametrize("name", ["v1_module_learnable", "v2_cos"])
def test_switches_are_zero_or_one(name: str, tmp_path: Path) -> None:
    """ONNX Runtime takes other numbers for one or the other."""
    nodes = list(onnx_ir.load(write(model_of(name), tmp_path / "out")).graph)
    switches = {node.op_type: node.attributes["keepdims"].as_int() for node in nodes if "keepdims" in node.attributes}
    assert switches == {"ReduceMean": 0} | ({"ReduceL2": 1} if name == "v2_cos" else {})
    assert len({node.name for node in nodes}) == len(nodes)


@pytest.mark.parametrize("opset", [OPSETS.start - 1, OPSETS.stop])
def test_an_opset_that_is_not_offered_is_refused(opset: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"from 18 to 23, received {opset}"):
        write(model_of("v1_gamma"), tmp_path / "out", opset=opset)


def test_the_graph_says_its_heads(tmp_path: Path) -> None:
    assert read_heads(write(model_of("v1_gamma"), tmp_path / "out")) == 3


@pytest.mark.parametrize("classes", [4, 6])
def test_a_label_order_of_another_size_is_refused(key: SecurityKey, classes: int) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=classes)
    with pytest.raises(ValueError, match=f"5 classes, the label order {classes}"):
        scramble(model_of("v1_gamma"), orders)


@pytest.mark.parametrize("name", ORACLES)
def test_the_bank_has_the_keyed_tensors_of_the_model(name: str, key: SecurityKey) -> None:
    model = model_of(name)
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, classes=model.config.classes)
    tensors = keyed_tensors(scramble(model, orders))
    received = {f"bank.{name}": (str(tensor.dtype), (None, *tensor.shape)) for name, tensor in tensors.items()}
    assert received == {spec.name: (spec.dtype, spec.shape) for spec in bank_specs(model.config)}


def test_a_graph_of_format_1_keeps_its_tensors_and_answers(tmp_path: Path) -> None:
    import onnxruntime

    server = Path(__file__).parent / "data/format_1/server"
    tensors = split_v1(server / "model.onnx", tmp_path / "model.onnx")
    stored = load_file(server / "keyed.safetensors")
    assert set(tensors) == set(stored)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(tensor, stored[name])
    probe = load_file(server / "probe.safetensors")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    feed = {f"bank.{name}": tensor[None] for name, tensor in tensors.items()}
    (logits,) = session.run(None, {**feed, "clips": probe["clip"], "key": np.zeros(1, np.int64)})
    np.testing.assert_allclose(logits, probe["logits"], atol=1e-5)
    with pytest.raises(ArtifactError, match="expected a graph of format 1, received one without the initializers cube"):
        split_v1(tmp_path / "model.onnx", tmp_path / "again.onnx")
