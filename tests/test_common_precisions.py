"""The common form in fp16, bf16 and int8, on every runtime of this machine: within the budgets of each precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir
import pytest

from lcve_deploy import Layout, PlainClip, encrypt
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.exporters.bank import gathers_of, keyed_tensors
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import LOW_PRECISIONS, write_low_precision
from lcve_deploy.exporters.onnx import write_onnx
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.precision import BUDGETS, Precision
from tests.support.common_form import CASES, KEYS, clips_of, drawn, in_plain_order, orders_of
from tests.support.emulation import emulated

NAMES = [
    "V-JEPA 2",
    "SigLIP",
    "rotary, table and prefix",
    "relative positions",
    "relative positions, cosine",
    "RMS",
    "RMS by head",
    "gated",
    "distillation",
    "projected features",
    "tokens",
]

Feed = Mapping[str, npt.NDArray[Any]]
Run = Callable[[Path, Feed], npt.NDArray[np.float32]]


def on_onnxruntime(path: Path, feed: Feed) -> npt.NDArray[np.float32]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def on_openvino(path: Path, feed: Feed) -> npt.NDArray[np.float32]:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    return np.array(openvino.Core().compile_model(path, "CPU", options)(feed)[0])


def on_matrix_units(path: Path, feed: Feed) -> npt.NDArray[np.float32]:
    return np.asarray(emulated(path).run(None, feed)[0])


RUNTIMES: dict[Precision, tuple[Run, ...]] = {
    Precision.FP32: (on_onnxruntime, on_openvino),
    Precision.FP16: (on_onnxruntime, on_openvino, on_matrix_units),
    Precision.BF16: (on_openvino, on_matrix_units),
    Precision.INT8: (on_onnxruntime, on_openvino),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_precision_is_within_its_budget(name: str, tmp_path: Path) -> None:
    config = CASES[name]
    model, clips, orders = drawn(config), clips_of(config.geometry, 4), orders_of(config, KEYS[0])
    expected, moved = BuiltinReference(model).logits(clips), scramble(model, orders)
    path, tensors = tmp_path / "model.onnx", keyed_tensors(moved)
    write_onnx(moved, path, layout=Layout.CUBES)
    encrypted = encrypt(PlainClip(values=clips), orders, layout=Layout.CUBES).values
    feed = {"clips": encrypted, "key": np.zeros(len(clips), np.int64)}
    feed |= {f"{BANK_PREFIX}{name}": tensor[None] for name, tensor in tensors.items()}
    graphs = {Precision.FP32: path, Precision.INT8: tmp_path / "int8.onnx"}
    write_quantised(path, graphs[Precision.INT8], calibrate(path, encrypted, tensors))
    for precision in LOW_PRECISIONS:
        graphs[precision] = tmp_path / f"{precision}.onnx"
        write_low_precision(path, graphs[precision], precision)
        assert_positions_are_float32(graphs[precision])
    for precision, graph in graphs.items():
        allowed = BUDGETS[precision] * max(1.0, float(np.abs(expected).max()))
        for run in RUNTIMES[precision]:
            output = in_plain_order(run(graph, feed), config, orders)
            assert np.abs(output - expected).max() < allowed, (precision, run.__name__)


def assert_positions_are_float32(path: Path) -> None:
    """No table of positions is cast to the low type."""
    for name, gather in gathers_of(onnx_ir.load(path).graph).items():
        nodes = [use.node for use in gather.outputs[0].uses()]
        nodes += [use.node for node in nodes if node.op_type == "Unsqueeze" for use in node.outputs[0].uses()]
        assert "Cast" not in {node.op_type for node in nodes}, name


def test_layers_of_a_readout_stay_float32_in_int8(tmp_path: Path) -> None:
    """They compute one vector for each clip, and their error would be that of the whole model."""
    moved = unscrambled(drawn(dataclasses.replace(CASES["V-JEPA 2"], projection=6, unit=True)))
    write_onnx(moved, tmp_path / "model.onnx", layout=Layout.VIDEO)
    ranges = calibrate(tmp_path / "model.onnx", clips_of(moved.config.geometry), keyed_tensors(moved))
    layers = ("attention.qkv", "attention.projection", "mlp.fc1", "mlp.fc2")
    blocks = [f"blocks.{i}" for i in range(2)] + [f"pooler.blocks.{i}" for i in range(2)]
    assert set(ranges) == {f"{block}.{layer}" for block in blocks for layer in layers}


@pytest.mark.parametrize("name", CASES)
def test_a_graph_with_its_key_inside_answers_as_with_the_bank(name: str, tmp_path: Path) -> None:
    config = CASES[name]
    model, clips, orders = drawn(config), clips_of(config.geometry), orders_of(config, KEYS[0])
    moved = scramble(model, orders)
    write_onnx(moved, tmp_path / "bank.onnx", layout=Layout.VIDEO)
    embed_key(tmp_path / "bank.onnx", keyed_tensors(moved), tmp_path / "model.onnx")
    encrypted = encrypt(PlainClip(values=clips), orders, layout=Layout.VIDEO).values
    output = in_plain_order(on_onnxruntime(tmp_path / "model.onnx", {"clips": encrypted}), config, orders)
    expected = BuiltinReference(model).logits(clips)
    np.testing.assert_allclose(output, expected, rtol=0, atol=2e-5 * max(1.0, float(np.abs(expected).max())))
