"""Graphs in fp16, bf16 and int8, made of the canonical fp32 graph without key or checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest

from examples.moving_digits.data import held_out_clips
from lcve_deploy import CheckpointOptions, Layout, PlainClip, SecurityKey, derive_orders
from lcve_deploy.artifact.names import BANK_PREFIX
from lcve_deploy.cipher.clips import encrypt
from lcve_deploy.cipher.weights import scramble, unscrambled
from lcve_deploy.errors import ArtifactError, PrecisionError
from lcve_deploy.exporters import storage
from lcve_deploy.exporters.bank import keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import LOW_PRECISIONS, write_low_precision
from lcve_deploy.exporters.onnx import OPSETS, write_onnx
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.model.transformer import VideoTransformer
from tests.conftest import GEOMETRY, ORACLES, SALT, SECRET, Oracle
from tests.support.emulation import emulated

TINY = ORACLES["v1_model_args"]
REDUCED = (*LOW_PRECISIONS, Precision.INT8)
LOW_TYPES = {Precision.FP16: onnx.TensorProto.FLOAT16, Precision.BF16: onnx.TensorProto.BFLOAT16}
EXAMPLE = Path(__file__).parents[1] / "examples/moving_digits"
OTHER_SALT = bytes(16)

Feed = dict[str, np.ndarray]
Answer = Callable[[Feed], np.ndarray]


@dataclass(frozen=True)
class Scrambled:
    """A graph, the keyed tensors of a key, and clips of this key with the reference's answer in its label order."""

    path: Path
    tensors: dict[str, np.ndarray]
    clips: np.ndarray
    logits: np.ndarray

    @property
    def feed(self) -> Feed:
        return self.feed_of(self.clips)

    def feed_of(self, clips: np.ndarray) -> Feed:
        return {"clips": clips, **bank_of(self.tensors), "key": np.zeros(len(clips), np.int64)}

    @property
    def allowance(self) -> float:
        return max(1.0, float(np.abs(self.logits).max()))


def bank_of(*keys: dict[str, np.ndarray]) -> Feed:
    """The inputs of a bank with one row for each key."""
    return {f"{BANK_PREFIX}{name}": np.stack([tensors[name] for tensors in keys]) for name in keys[0]}


def scrambled(
    model: VideoTransformer,
    folder: Path,
    plain: np.ndarray,
    *,
    secret: bytes = SECRET,
    salt: bytes = SALT,
    **options: Any,
) -> Scrambled:
    folder.mkdir()
    key, geometry = SecurityKey(secret), model.config.geometry
    orders = derive_orders(key, salt=salt, geometry=geometry, classes=model.config.classes)
    moved = scramble(model, orders)
    write_onnx(moved, folder / "model.onnx", layout=Layout.CUBES, **options)
    clips = encrypt(PlainClip(values=plain), orders, layout=Layout.CUBES).values
    logits = BuiltinReference(model).logits(plain)[:, orders.label_order]
    return Scrambled(folder / "model.onnx", keyed_tensors(moved), clips, logits)


def plain_clips(clip: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (3, *clip.shape), dtype=np.uint8)
    return np.concatenate([clip[None], clip[None, ::-1], noise])


def reduced(source: Scrambled, folder: Path, precision: Precision) -> Path:
    folder.mkdir()
    if precision is Precision.INT8:
        write_quantised(source.path, folder / "model.onnx", calibrate(source.path, source.clips, source.tensors))
    else:
        write_low_precision(source.path, folder / "model.onnx", precision)
    return folder / "model.onnx"


def on_onnxruntime(path: Path) -> Answer:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, feed)[0]


def on_openvino(path: Path) -> Answer:
    """What a graph does not state is float32, as in our sessions; untold, OpenVINO takes bf16 where the CPU has it."""
    told = {"INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", told).create_infer_request()
    return lambda feed: request.infer(feed)["logits"].copy()


def on_matrix_units(path: Path) -> Answer:
    session = emulated(path)
    return lambda feed: session.run(None, feed)[0]


RUNTIMES = {
    Precision.FP16: (on_onnxruntime, on_openvino, on_matrix_units),
    Precision.BF16: (on_openvino, on_matrix_units),
    Precision.INT8: (on_onnxruntime, on_openvino),
}


@pytest.fixture(scope="module", params=list(ORACLES.values()), ids=list(ORACLES))
def oracle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, clip: np.ndarray) -> Scrambled:
    said: Oracle = request.param
    model = load_checkpoint(said.path, said.options).model
    return scrambled(model, tmp_path_factory.mktemp(said.name) / "server", plain_clips(clip))


@pytest.fixture(scope="module")
def engine(oracle: Scrambled, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Precision], Path]:
    """The graph of an oracle in a precision, written once."""
    folder = tmp_path_factory.mktemp("engines")
    return functools.cache(lambda precision: reduced(oracle, folder / precision, precision))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, clip: np.ndarray) -> Scrambled:
    return scrambled(load_tiny(), tmp_path_factory.mktemp("tiny") / "server", plain_clips(clip))


@pytest.fixture(scope="module")
def held_out() -> tuple[np.ndarray, np.ndarray]:
    return held_out_clips(64)


@pytest.fixture(scope="module")
def actions(held_out: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return held_out[1]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory, held_out: tuple[np.ndarray, np.ndarray]) -> Scrambled:
    """The trained example; its answers are the fp32 graph's, which other tests compare with the reference."""
    options = CheckpointOptions(heads=4, frames=16, size=64)
    model = load_checkpoint(EXAMPLE / "moving_digits.pth", options).model
    source = scrambled(model, tmp_path_factory.mktemp("example") / "server", held_out[0][:1])
    orders = derive_orders(SecurityKey(SECRET), salt=SALT, geometry=model.config.geometry)
    clips = encrypt(PlainClip(values=held_out[0]), orders, layout=Layout.CUBES).values
    answer = on_onnxruntime(source.path)
    logits = np.concatenate([answer(source.feed_of(part)) for part in np.array_split(clips, 4)])
    return Scrambled(source.path, source.tensors, clips, logits)


def load_tiny() -> VideoTransformer:
    return load_checkpoint(TINY.path, TINY.options).model


# Answers


@pytest.mark.parametrize("precision", REDUCED)
def test_logits_on_encrypted_clips_are_within_the_budget(
    oracle: Scrambled, precision: Precision, engine: Callable[[Precision], Path]
) -> None:
    for runtime in RUNTIMES[precision]:
        received = runtime(engine(precision))(oracle.feed)
        assert np.abs(received - oracle.logits).max() <= BUDGETS[precision] * oracle.allowance, runtime.__name__


@pytest.mark.parametrize("precision", REDUCED)
def test_the_reduced_precision_shows_in_the_logits(tiny: Scrambled, precision: Precision, tmp_path: Path) -> None:
    full = on_onnxruntime(tiny.path)(tiny.feed)
    answer = RUNTIMES[precision][-1](reduced(tiny, tmp_path / "engine", precision))
    assert np.abs(answer(tiny.feed) - full).max() > 10 * np.abs(full - tiny.logits).max()


@pytest.mark.parametrize("opset", [OPSETS.start, 20, OPSETS.stop - 1])
@pytest.mark.parametrize("precision", REDUCED)
@pytest.mark.parametrize("name", ["v2_cos", "v1_gamma", "hf_vivit"])
def test_opsets_are_accepted_and_answer(
    name: str, precision: Precision, opset: int, clip: np.ndarray, tmp_path: Path
) -> None:
    model = load_checkpoint(ORACLES[name].path, ORACLES[name].options).model
    source = scrambled(model, tmp_path / "server", plain_clips(clip), opset=opset)
    path = reduced(source, tmp_path / "engine", precision)
    onnx.checker.check_model(path, full_check=True)
    received = RUNTIMES[precision][-1](path)(source.feed)
    assert np.abs(received - source.logits).max() <= BUDGETS[precision] * source.allowance


@pytest.mark.parametrize("precision", REDUCED)
def test_the_trained_example_keeps_its_predictions(
    example: Scrambled, actions: np.ndarray, precision: Precision, tmp_path: Path
) -> None:
    few = dataclasses.replace(
        example, clips=example.clips[:8], logits=example.logits[:8]
    )  # of which int8 takes its ranges
    answer = RUNTIMES[precision][-1](reduced(few, tmp_path / "engine", precision))
    received = np.concatenate([answer(example.feed_of(part)) for part in np.array_split(example.clips, 4)])
    np.testing.assert_array_equal(received.argmax(axis=1), example.logits.argmax(axis=1))
    assert np.abs(received - example.logits).max() <= BUDGETS[precision] * example.allowance
    orders = derive_orders(SecurityKey(SECRET), salt=SALT, geometry=GEOMETRY, classes=example.logits.shape[1])
    assert orders.label_order is not None
    assert (orders.label_order[received.argmax(axis=1)] == actions).mean() >= 0.95


def test_int8_does_not_saturate_where_products_are_added_up_in_16_bits(tiny: Scrambled, tmp_path: Path) -> None:
    path = reduced(tiny, tmp_path / "engine", Precision.INT8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # products in float32
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, tiny.feed)
    for runtime in RUNTIMES[Precision.INT8]:
        np.testing.assert_allclose(runtime(path)(tiny.feed), expected, atol=2e-3, err_msg=runtime.__name__)


# What is in the file


def value_types(path: Path) -> tuple[onnx.GraphProto, dict[str, int]]:
    """The graph, and the element type of every value, as ONNX infers it from the file alone."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True, check_type=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return graph, types | {tensor.name: tensor.data_type for tensor in graph.initializer}


@pytest.mark.parametrize("precision", LOW_PRECISIONS)
def test_the_file_states_the_type_of_every_product(engine: Callable[[Precision], Path], precision: Precision) -> None:
    graph, types = value_types(engine(precision))
    gathered = {node.output[0] for node in graph.node if node.op_type == "Gather"}
    keyed_products = {node.name for node in graph.node if node.op_type == "MatMul" and gathered & set(node.input)}
    assert len(keyed_products) == 2
    for node in graph.node:
        kinds = {types[name] for name in node.input if name}
        if node.op_type == "MatMul":
            keyed = keyed_products & {node.name}
            assert kinds == {onnx.TensorProto.FLOAT if keyed else LOW_TYPES[precision]}, node.name
        if node.op_type in {"LayerNormalization", "Softmax", "ReduceMean", "ReduceL2", "Div", "Mul"}:
            assert kinds - {onnx.TensorProto.INT64} == {onnx.TensorProto.FLOAT}, node.name
        if node.op_type == "Add" and not set(node.input) & {tensor.name for tensor in graph.initializer}:
            assert kinds == {onnx.TensorProto.FLOAT}, f"residual {node.name}"
    cast = [node.input[0] for node in graph.node if node.op_type == "Cast"]
    assert len(cast) == len(set(cast))
    assert types["logits"] == onnx.TensorProto.FLOAT


def same_sign_sums(weight: np.ndarray) -> np.ndarray:
    """|sums| of the neighbouring inputs' weights that have one sign, ``[2 · pairs, out]``."""
    pairs = weight.reshape(-1, 2, weight.shape[1])
    return np.concatenate([np.maximum(sign * pairs, 0).sum(axis=1) for sign in (1, -1)])


def test_the_int8_file_states_both_inputs_of_every_linear_layer(engine: Callable[[Precision], Path]) -> None:
    graph, types = value_types(engine(Precision.INT8))
    made_by = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    quantised = 0
    for node in graph.node:
        makers = [made_by[name].op_type for name in node.input if name in made_by]
        if node.op_type == "MatMul" and makers == ["DequantizeLinear"] * 2:
            weight, scale, zero = made_by[node.input[1]].input
            assert types[weight] == onnx.TensorProto.INT8
            assert tensors[scale].shape == (tensors[weight].shape[1],)
            assert not tensors[zero].any()
            assert same_sign_sums(tensors[weight].astype(int)).max(axis=0).min() >= 120
            assert same_sign_sums(tensors[weight].astype(int)).max() <= 128  # or 16-bit sums saturate
            quantised += 1
    weights = [tensor for tensor in graph.initializer if tensor.name.endswith(".weight")]
    assert quantised == sum(tensor.name.startswith("blocks.") and len(tensor.dims) == 2 for tensor in weights) > 0


@pytest.mark.parametrize("precision", REDUCED)
def test_the_bank_is_that_of_the_canonical_graph(
    oracle: Scrambled, precision: Precision, engine: Callable[[Precision], Path]
) -> None:
    here, canonical = (onnx.load(path).graph.input for path in (engine(precision), oracle.path))
    assert list(here) == list(canonical)


# Keys


@pytest.mark.parametrize("precision", REDUCED)
def test_one_graph_answers_a_batch_of_many_keys(precision: Precision, clip: np.ndarray, tmp_path: Path) -> None:
    model, plain = load_tiny(), plain_clips(clip)
    first = scrambled(model, tmp_path / "first", plain)
    second = scrambled(model, tmp_path / "second", plain, secret=bytes(32), salt=OTHER_SALT)
    assert first.path.read_bytes() == second.path.read_bytes()
    path = reduced(first, tmp_path / "engine", precision)
    answer, bank = RUNTIMES[precision][-1](path), bank_of(first.tensors, second.tensors)
    clips = np.concatenate([second.clips[:1], first.clips[:2], second.clips[1:2]])
    expected = np.concatenate([second.logits[:1], first.logits[:2], second.logits[1:2]])
    logits = answer({**bank, "clips": clips, "key": np.array([1, 0, 0, 1])})
    assert np.abs(logits - expected).max() <= BUDGETS[precision] * first.allowance
    wrong = answer({**bank, "clips": clips, "key": np.array([0, 1, 1, 0])})
    assert np.abs(wrong - expected).max() > BUDGETS[precision] * first.allowance


@pytest.mark.parametrize("precision", [Precision.FP32, *REDUCED])
def test_a_graph_with_an_embedded_key_runs_by_itself(
    oracle: Scrambled, precision: Precision, engine: Callable[[Precision], Path], tmp_path: Path
) -> None:
    source = oracle.path if precision is Precision.FP32 else engine(precision)
    embed_key(source, oracle.tensors, tmp_path / "alone.onnx")
    onnx.checker.check_model(tmp_path / "alone.onnx", full_check=True)
    graph = onnx.load(tmp_path / "alone.onnx").graph
    assert [value.name for value in graph.input] == ["clips"]
    for name, tensor in oracle.tensors.items():
        (found,) = [onnx.numpy_helper.to_array(t) for t in graph.initializer if t.name == name]
        np.testing.assert_array_equal(found, tensor)
    runtime = RUNTIMES.get(precision, (on_onnxruntime,))[-1]
    received = runtime(tmp_path / "alone.onnx")({"clips": oracle.clips})
    np.testing.assert_allclose(
        received, runtime(source)(oracle.feed), atol=1e-5 if precision is Precision.FP32 else 2e-3
    )


def test_an_embedded_key_must_be_one_of_the_model(tiny: Scrambled, tmp_path: Path) -> None:
    other = tiny.tensors | {"head.bias": np.zeros(6, np.float32)}
    for tensors in (other, dict(list(tiny.tensors.items())[1:]), {}):
        with pytest.raises(ArtifactError, match=r"expected the keyed tensors cube_embedding\.weight float32"):
            embed_key(tiny.path, tensors, tmp_path / "alone.onnx")
    embed_key(tiny.path, tiny.tensors, tmp_path / "alone.onnx")
    with pytest.raises(ArtifactError, match="expected the keyed tensors none"):
        embed_key(tmp_path / "alone.onnx", tiny.tensors, tmp_path / "again.onnx")


def test_ranges_of_encrypted_clips_are_those_of_plain_clips_under_every_key(clip: np.ndarray, tmp_path: Path) -> None:
    model, plain = load_tiny(), plain_clips(clip)
    first = scrambled(model, tmp_path / "first", plain)
    second = scrambled(model, tmp_path / "second", plain, secret=bytes(32), salt=OTHER_SALT)
    (tmp_path / "plain").mkdir()
    unmoved = unscrambled(model)
    write_onnx(unmoved, tmp_path / "plain/model.onnx", layout=Layout.VIDEO)
    expected = calibrate(tmp_path / "plain/model.onnx", plain, keyed_tensors(unmoved))
    assert len(expected) == 4 * model.config.depth
    assert len({round(value, 3) for value in expected.values()}) == len(expected)
    for source in (first, second):
        ranges = calibrate(source.path, source.clips, source.tensors)
        assert ranges == pytest.approx(expected, rel=1e-5)


def test_a_range_is_the_largest_over_all_clips(tiny: Scrambled) -> None:
    apart = [calibrate(tiny.path, clip[None], tiny.tensors) for clip in tiny.clips]
    together = calibrate(tiny.path, tiny.clips, tiny.tensors)
    assert together == {name: max(ranges[name] for ranges in apart) for name in together}


# Where the files go


@pytest.mark.parametrize("precision", REDUCED)
def test_large_weights_go_to_a_file_beside_the_graph(
    tiny: Scrambled, precision: Precision, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = reduced(tiny, tmp_path / "inside", precision)
    monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 10_000)
    source = scrambled(load_tiny(), tmp_path / "server", plain_clips(clip))
    beside = reduced(source, tmp_path / "beside", precision)
    monkeypatch.undo()
    inside_again = reduced(source, tmp_path / "again", precision)
    assert {path.name for path in beside.parent.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert {path.name for path in inside_again.parent.iterdir()} == {"model.onnx"}
    shutil.rmtree(source.path.parent)  # the new graphs need nothing of it
    answer = RUNTIMES[precision][-1]
    expected = answer(inside)(tiny.feed)
    np.testing.assert_array_equal(answer(beside)(tiny.feed), expected)
    np.testing.assert_array_equal(answer(inside_again)(tiny.feed), expected)


# Bad input


def with_weight(model: VideoTransformer, name: str, value: float) -> VideoTransformer:
    weights = {key: np.array(array) for key, array in model.weights.items()}
    weights[name].flat[0] = value
    return dataclasses.replace(model, weights=weights)


@pytest.mark.parametrize("name", ["blocks.0.mlp.fc1.weight", "blocks.1.attention.projection.bias"])
def test_a_weight_that_fp16_cannot_hold_is_one_clear_error(name: str, clip: np.ndarray, tmp_path: Path) -> None:
    source = scrambled(with_weight(load_tiny(), name, 70_000.0), tmp_path / "server", plain_clips(clip))
    with pytest.raises(
        PrecisionError, match=f"{name} is out of range for fp16: its largest absolute value is 7e\\+04"
    ) as caught:
        reduced(source, tmp_path / "fp16", Precision.FP16)
    assert "bf16" in caught.value.hint
    assert not list((tmp_path / "fp16").glob("model*"))
    reduced(source, tmp_path / "bf16", Precision.BF16)


def test_a_keyed_tensor_may_be_as_large_as_it_is(clip: np.ndarray, tmp_path: Path) -> None:
    source = scrambled(with_weight(load_tiny(), "head.bias", 70_000.0), tmp_path / "server", plain_clips(clip))
    received = on_matrix_units(reduced(source, tmp_path / "fp16", Precision.FP16))(source.feed)
    assert np.abs(received - source.logits).max() <= BUDGETS[Precision.FP16] * source.allowance


def test_a_type_that_is_not_low_is_refused(tiny: Scrambled, tmp_path: Path) -> None:
    for precision in (Precision.FP32, Precision.INT8):
        with pytest.raises(ValueError, match=f"expected fp16 or bf16, received {precision}"):
            write_low_precision(tiny.path, tmp_path / "model.onnx", precision)


def test_ranges_of_another_model_are_refused(tiny: Scrambled, tmp_path: Path) -> None:
    ranges = calibrate(tiny.path, tiny.clips[:1], tiny.tensors)
    missing = dict(list(ranges.items())[1:])
    for wrong in ({}, missing, missing | {"blocks.9.mlp.fc1": 1.0}, ranges | {"blocks.9.mlp.fc1": 1.0}):
        with pytest.raises(PrecisionError, match=f"expected ranges for the {len(ranges)} linear layers"):
            write_quantised(tiny.path, tmp_path / "model.onnx", wrong)
    for value in (float("nan"), float("inf"), -1.0):
        with pytest.raises(PrecisionError, match="expected finite ranges"):
            write_quantised(tiny.path, tmp_path / "model.onnx", ranges | {"blocks.0.mlp.fc1": value})
    assert not list(tmp_path.iterdir())


def test_calibration_needs_a_clip(tiny: Scrambled) -> None:
    with pytest.raises(ValueError, match="at least one clip"):
        calibrate(tiny.path, tiny.clips[:0], tiny.tensors)


def test_calibration_refuses_a_model_that_overflows(clip: np.ndarray, tmp_path: Path) -> None:
    broken = with_weight(load_tiny(), "blocks.0.norm1.weight", 3e38)
    source = scrambled(broken, tmp_path / "server", plain_clips(clip))
    with pytest.raises(PrecisionError, match="expected finite ranges"):
        calibrate(source.path, source.clips, source.tensors)


def test_a_layer_that_sees_only_zeros_does_no_harm(tiny: Scrambled, tmp_path: Path) -> None:
    ranges = calibrate(tiny.path, tiny.clips[:1], tiny.tensors)
    write_quantised(tiny.path, tmp_path / "model.onnx", ranges | {"blocks.0.mlp.fc2": 0.0})
    assert np.isfinite(on_onnxruntime(tmp_path / "model.onnx")(tiny.feed)).all()


def test_every_precision_has_a_budget_and_they_widen() -> None:
    assert list(BUDGETS) == [Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8]
    assert list(BUDGETS.values()) == sorted(BUDGETS.values())
