"""Attention as one node of ONNX Runtime, and over blocks of queries: the logits stay those of the original models."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import attention
from lcve_deploy import Layout, SessionOptions, open_session
from lcve_deploy.artifact import read_manifest, read_probe
from lcve_deploy.cipher.weights import unscrambled
from lcve_deploy.exporters.bank import keyed_tensors
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.embedding import embed_key
from lcve_deploy.exporters.graph import attention as exporter
from lcve_deploy.exporters.graph.attention import block_sizes
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.onnx import OPSETS, write_onnx
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.backends.attention import fuse_attention
from lcve_deploy.runtime.session import Provider
from tests.conftest import ORACLES
from tests.support import fake_cuda_provider

FUSED = "MultiHeadAttention"
DOT = ["v1_gamma", "v1_module_learnable", "hf_vivit"]


def write(name: str, folder: Path, *, opset: int = 20) -> onnx.ModelProto:
    oracle = ORACLES[name]
    model = load_checkpoint(oracle.path, oracle.options).model
    folder.mkdir()
    unmoved = unscrambled(model)
    write_onnx(unmoved, folder / "bank.onnx", layout=Layout.VIDEO, opset=opset)
    embed_key(folder / "bank.onnx", keyed_tensors(unmoved), folder / "model.onnx")
    return onnx.load(folder / "model.onnx")


def fused(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(fuse_attention(model.SerializeToString()))


def logits_of(model: onnx.ModelProto, clip: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"clips": clip[None]})
    return np.asarray(logits[0])


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of few queries, for the small models of the tests."""
    monkeypatch.setattr(exporter, "MAX_SCORES", 2000)


@pytest.mark.parametrize("name", DOT)
@pytest.mark.parametrize("opset", OPSETS)
def test_fused_attention_gives_the_logits_of_the_original(
    name: str, opset: int, clip: np.ndarray, tmp_path: Path
) -> None:
    plain = write(name, tmp_path / "out", opset=opset)
    model = fused(plain)
    assert kinds(model)[FUSED] == kinds(plain)["Softmax"] > 0
    assert kinds(model)["Softmax"] == 0
    assert {(o.domain, o.version) for o in model.opset_import} == {("", opset), ("com.microsoft", 1)}
    np.testing.assert_allclose(logits_of(model, clip), ORACLES[name].logits, atol=1e-5)
    np.testing.assert_allclose(logits_of(model, clip), logits_of(plain, clip), atol=1e-6)


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("name", [*DOT, "v2_cos"])
def test_blocks_of_queries_give_the_logits_of_the_original(name: str, clip: np.ndarray, tmp_path: Path) -> None:
    model = write(name, tmp_path / "out")
    assert kinds(model)["Softmax"] > load_checkpoint(ORACLES[name].path, ORACLES[name].options).model.config.depth
    np.testing.assert_allclose(logits_of(model, clip), ORACLES[name].logits, atol=1e-5)


@pytest.mark.usefixtures("short_blocks")
def test_blocks_become_one_operator_again(clip: np.ndarray, tmp_path: Path) -> None:
    model = fused(write("v1_gamma", tmp_path / "out"))
    assert kinds(model)[FUSED] == kinds(model)["Split"] == depth("v1_gamma")
    assert kinds(model)["Concat"] == kinds(model)["Transpose"] - 1 == 0
    np.testing.assert_allclose(logits_of(model, clip), ORACLES["v1_gamma"].logits, atol=1e-5)


def _blocks_in_another_order(model: onnx.ModelProto) -> None:
    joined = _first(model, "Concat")
    joined.input[:] = [joined.input[1], joined.input[0], *joined.input[2:]]


def _a_block_used_twice(model: onnx.ModelProto) -> None:
    name = _first(model, "Concat").input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


def _a_block_left_out(model: onnx.ModelProto) -> None:
    _first(model, "Concat").input.pop()


def _joined_along_the_width(model: onnx.ModelProto) -> None:
    _first(model, "Concat").attribute[0].i = 2


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize(
    "change", [_blocks_in_another_order, _a_block_used_twice, _a_block_left_out, _joined_along_the_width]
)
def test_blocks_that_differ_stay_apart(change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    model = write("v1_gamma", tmp_path / "out")
    blocks = kinds(model)["Softmax"] // depth("v1_gamma")
    change(model)
    assert kinds(fused(model))[FUSED] == depth("v1_gamma") - 1 + blocks
    assert kinds(fused(model))["Concat"] == 1


@pytest.mark.usefixtures("short_blocks")
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
def test_blocks_keep_a_low_precision(precision: Precision, tmp_path: Path) -> None:
    """The blocks are joined in the type in which they were computed, without a cast between."""
    write("v1_gamma", tmp_path / "out")
    (tmp_path / "low").mkdir()
    write_low_precision(tmp_path / "out/model.onnx", tmp_path / "low/model.onnx", precision)
    model = onnx.load(tmp_path / "low/model.onnx")
    makers = {output: node for node in model.graph.node for output in node.output}
    joined = [node for node in model.graph.node if node.op_type == "Concat" and "Reshape" in kinds_of(makers, node)]
    assert len(joined) == depth("v1_gamma")
    assert all(kinds_of(makers, node) == {"Reshape"} for node in joined)


def kinds_of(makers: dict[str, onnx.NodeProto], node: onnx.NodeProto) -> set[str]:
    """Operators that make the inputs of a node."""
    return {makers[name].op_type for name in node.input if name in makers}


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16])
@pytest.mark.parametrize("name", DOT)
def test_attention_of_low_precision_is_fused(name: str, precision: Precision, clip: np.ndarray, tmp_path: Path) -> None:
    plain, model = low_and_fused(name, precision, tmp_path)
    assert kinds(model)[FUSED] == kinds(plain)["Softmax"] == depth(name)
    assert kinds(model)["Cast"] == kinds(plain)["Cast"] - 2 * depth(name)
    if precision is Precision.FP16:  # ONNX Runtime casts what the CPU has no kernel for, but not from bfloat16
        np.testing.assert_allclose(logits_of(model, clip), logits_of(plain, clip), atol=2e-3)


@pytest.mark.usefixtures("short_blocks")
def test_blocks_of_low_precision_become_one_operator_again(clip: np.ndarray, tmp_path: Path) -> None:
    plain, model = low_and_fused("v1_gamma", Precision.FP16, tmp_path)
    assert kinds(model)[FUSED] == depth("v1_gamma") < kinds(plain)["Softmax"]
    np.testing.assert_allclose(logits_of(model, clip), logits_of(plain, clip), atol=2e-3)


def _softmax_in_the_low_type(model: onnx.ModelProto) -> None:
    """The softmax computes in float16: without the cast before it, and the one after it."""
    softmax = _first(model, "Softmax")
    before = next(node for node in model.graph.node if softmax.input[0] in node.output)
    softmax.input[0] = before.input[0]


def _scores_in_double(model: onnx.ModelProto) -> None:
    softmax = _first(model, "Softmax")
    before = next(node for node in model.graph.node if softmax.input[0] in node.output)
    before.attribute[0].i = onnx.TensorProto.DOUBLE


def _softmax_used_twice(model: onnx.ModelProto) -> None:
    name = _first(model, "Softmax").output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))


@pytest.mark.parametrize("change", [_softmax_in_the_low_type, _scores_in_double, _softmax_used_twice])
def test_a_softmax_between_other_casts_is_left(change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    plain, _ = low_and_fused("v1_gamma", Precision.FP16, tmp_path)
    change(plain)
    assert kinds(fused(plain))["Softmax"] == 1
    assert kinds(fused(plain))[FUSED] == depth("v1_gamma") - 1


def low_and_fused(name: str, precision: Precision, folder: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    write(name, folder / "out")
    (folder / "low").mkdir()
    write_low_precision(folder / "out/model.onnx", folder / "low/model.onnx", precision)
    low = onnx.load(folder / "low/model.onnx")
    return low, fused(low)


def depth(name: str) -> int:
    return load_checkpoint(ORACLES[name].path, ORACLES[name].options).model.config.depth


@pytest.mark.parametrize("name", DOT)
def test_nothing_is_left_that_nobody_uses(name: str, tmp_path: Path) -> None:
    """ONNX Runtime warns of unused initializers on standard error."""
    graph = fused(write(name, tmp_path / "out")).graph
    used = {name for node in graph.node for name in node.input} | {"logits"}
    assert used.issuperset(output for node in graph.node if node.op_type != "Split" for output in node.output)
    assert used.issuperset(tensor.name for tensor in graph.initializer)
    assert len({node.name for node in graph.node}) == len(graph.node)


def _first(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def _softmax_over_queries(model: onnx.ModelProto) -> None:
    _first(model, "Softmax").attribute[0].i = 2


def _scores_used_twice(model: onnx.ModelProto) -> None:
    scores = _first(model, "Softmax").input[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None))


def _weights_used_twice(model: onnx.ModelProto) -> None:
    scores = _first(model, "Softmax").output[0]
    model.graph.output.append(onnx.helper.make_tensor_value_info(scores, onnx.TensorProto.FLOAT, None))


def _masked(model: onnx.ModelProto) -> None:
    softmax = _first(model, "Softmax")
    mask = onnx.helper.make_node("Neg", [softmax.input[0]], ["masked"], name="mask")
    model.graph.node.insert(list(model.graph.node).index(softmax), mask)
    softmax.input[0] = "masked"


def _keys_not_turned(model: onnx.ModelProto) -> None:
    perms = [node.attribute[0] for node in model.graph.node if node.op_type == "Transpose"]
    next(perm for perm in perms if list(perm.ints) == [0, 1, 3, 2]).ints[:] = [0, 1, 2, 3]


def _values_in_another_order(model: onnx.ModelProto) -> None:
    values = _mixed(model).input[1]
    turn = next(node for node in model.graph.node if values in node.output)
    turn.attribute[0].ints[:] = [0, 3, 1, 2]


def _mixed(model: onnx.ModelProto) -> onnx.NodeProto:
    weights = _first(model, "Softmax").output[0]
    return next(node for node in model.graph.node if weights in node.input)


def _weights_on_the_right(model: onnx.ModelProto) -> None:
    mixed = _mixed(model)
    mixed.input[:] = [mixed.input[1], mixed.input[0]]


def _other_heads_for_values(model: onnx.ModelProto) -> None:
    values = _mixed(model).input[1]
    turn = next(node for node in model.graph.node if values in node.output)
    reshape = next(node for node in model.graph.node if turn.input[0] in node.output)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 1, 48]), "other"))
    reshape.input[1] = "other"


def _operator_of_another_domain(model: onnx.ModelProto) -> None:
    _first(model, "Softmax").domain = "elsewhere"


CHANGES = (
    _softmax_over_queries,
    _scores_used_twice,
    _weights_used_twice,
    _masked,
    _keys_not_turned,
    _values_in_another_order,
    _weights_on_the_right,
    _other_heads_for_values,
    _operator_of_another_domain,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_attention_that_differs_is_left_as_it_is(change: Callable[[onnx.ModelProto], None], tmp_path: Path) -> None:
    model = write("v1_gamma", tmp_path / "out")
    change(model)
    changed = fused(model)
    assert kinds(changed)[FUSED] == depth("v1_gamma") - 1
    assert kinds(changed)["Softmax"] == 1


def test_heads_that_are_joined_otherwise_are_left_as_they_are(tmp_path: Path) -> None:
    model = write("v1_gamma", tmp_path / "out")
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "shape_0_0_48")
    tensor.raw_data = np.array([0, -1, 48]).tobytes()
    content = model.SerializeToString()
    assert fuse_attention(content) == content


def test_a_graph_with_nothing_to_fuse_keeps_its_bytes(tmp_path: Path) -> None:
    write("v2_cos", tmp_path / "out")
    content = (tmp_path / "out/model.onnx").read_bytes()
    assert fuse_attention(content) == content


def test_a_graph_with_graphs_within_it_keeps_its_bytes(tmp_path: Path) -> None:
    """A graph within a node may use any value of the outer one."""
    model = write("v1_gamma", tmp_path / "out")
    branch = onnx.helper.make_graph([], "branch", [], [])
    model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))
    content = model.SerializeToString()
    assert fuse_attention(content) == content


def test_bytes_that_are_no_graph_are_refused() -> None:
    assert fuse_attention(b"") == b""
    with pytest.raises(ValueError, match="within a number"):
        fuse_attention(b"\xff")


@pytest.mark.parametrize(
    ("tokens", "heads", "sizes"),
    [
        (1568, 12, (1568,)),
        (2048, 16, (2048,)),
        (3137, 12, (3137,)),
        (3584, 12, (1792, 1792)),
        (8192, 16, (1024,) * 8),
    ],
)
def test_long_clips_alone_are_divided(tokens: int, heads: int, sizes: tuple[int, ...]) -> None:
    assert block_sizes(tokens, heads=heads) == sizes


def test_blocks_stay_within_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "MAX_SCORES", 1000)
    for tokens, heads in itertools.product((1, 7, 64, 333), (1, 3, 12)):
        sizes = block_sizes(tokens, heads=heads)
        assert sum(sizes) == tokens
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) == 1 or (max(sizes) - 1) * heads * tokens < 1000


@pytest.mark.parametrize(
    ("provider", "operator"), [(Provider.CPU, FUSED), (Provider.CUDA, FUSED), (Provider.TENSORRT, "Softmax")]
)
def test_sessions_fuse_attention_for_providers_that_have_a_kernel(
    provider: Provider, operator: str, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    given = []
    real = onnxruntime.InferenceSession

    def note(graph: bytes, *arguments: object, **more: object) -> object:
        given.append(onnx.ModelProto.FromString(graph))
        return real(graph, *arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", note)
    fake_cuda_provider.install(monkeypatch)
    open_session(artifact / "server", SessionOptions(provider=provider))
    assert [{FUSED, "Softmax"} & set(kinds(model)) for model in given] == [{operator}]


def test_without_a_kernel_for_the_fused_graph_the_plain_one_is_opened(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernelError

    real, given = onnxruntime.InferenceSession, []

    def without(graph: bytes, *arguments: object, **more: object) -> object:
        given.append(kinds(onnx.ModelProto.FromString(graph))[FUSED] > 0)
        if given[-1]:
            raise NoKernelError("Could not find an implementation for MultiHeadAttention(1)")
        return real(graph, *arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", without)
    server = artifact / "server"
    probe = read_probe(server, read_manifest(server))
    assert open_session(server).run_with(probe.clip, probe.tensors).shape == probe.logits.shape
    assert given == [True, False]


def test_the_page_is_made_of_the_results() -> None:
    results = json.loads(attention.FIGURES.read_text())
    assert attention.PAGE.read_text(encoding="utf-8") == attention.render(results)
    assert {len(runs) for case in results["figures"]["cases"].values() for runs in case.values()} == {
        results["figures"]["rounds"]
    }
