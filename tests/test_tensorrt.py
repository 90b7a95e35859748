"""TensorRT. The builder is the real TensorRT-RTX, which builds ahead of time without a GPU. Opening and
running are tested against stand-ins (``fake_gpu.py``); tests marked ``gpu`` do so on hardware, where so far only
encryption with CuPy has passed.
"""

from __future__ import annotations

import dataclasses
import platform
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from lcve_deploy import (
    EncryptedClip,
    Layout,
    PlainClip,
    SecurityKey,
    SessionOptions,
    derive_orders,
    encrypt,
    open_session,
)
from lcve_deploy.artifact import EngineKind, EngineRecord, Manifest, Profile, TensorSpec, read_engine, read_manifest
from lcve_deploy.artifact.keyed import KEYED, KEYED_TENSORS
from lcve_deploy.cipher.weights import scramble
from lcve_deploy.errors import BuildError, DeviceError, MismatchError, MissingDependencyError, SessionError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.int8 import calibrate, write_quantised
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.onnx import OPSETS, write_onnx
from lcve_deploy.exporters.tensorrt import (
    HardwareCompatibility,
    PlanOptions,
    build_plan,
    check_graph,
    refit_plan,
)
from lcve_deploy.exporters.tensorrt import plan as plan_module
from lcve_deploy.libraries import cuda
from lcve_deploy.libraries.cuda import Gpu, find_gpu
from lcve_deploy.libraries.tensorrt import (
    TENSORRT,
    TENSORRT_RTX,
    TensorRT,
    buildable_capabilities,
    find_tensorrt,
    numeric_version,
)
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import IMAGENET, TransformerConfig, VideoTransformer, weight_shapes
from lcve_deploy.runtime.backends.tensorrt import TensorRTSession
from lcve_deploy.runtime.session import run_within

from . import conftest, fake_gpu
from .conftest import GEOMETRY, ORACLES, SALT, SECRET, Oracle, run_error, run_ok

TINY = ORACLES["v1_model_args"]
GPU = Gpu(name="NVIDIA Nonesuch", capability="8.6")


@dataclass(frozen=True)
class Graph:
    """A scrambled model on disk, and what its manifest would say of it."""

    model: Path
    clips: TensorSpec
    logits: TensorSpec

    @property
    def specs(self) -> dict[str, Any]:
        return {"clips": self.clips, "logits": self.logits}


def write_graph(
    model: VideoTransformer, path: Path, *, layout: Layout = Layout.CUBES, opset: int = 20, salt: bytes = SALT
) -> Graph:
    config, key = model.config, SecurityKey(SECRET)
    scrambled = scramble(
        model,
        derive_orders(key, salt=salt, geometry=config.geometry, classes=config.classes),
    )
    write_onnx(scrambled, path, layout=layout, opset=opset)
    clips = TensorSpec(name="clips", dtype="uint8", shape=(None, *layout.shape(config.geometry)))
    return Graph(path, clips, TensorSpec(name="logits", dtype="float32", shape=(None, config.classes)))


def oracle_graph(oracle: Oracle, folder: Path, **options: Any) -> Graph:
    return write_graph(load_checkpoint(oracle.path, oracle.options).model, folder / "model.onnx", **options)


@pytest.fixture(scope="session")
def rtx() -> TensorRT:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("TensorRT-RTX is built for Linux on x86-64")
    return find_tensorrt(TENSORRT_RTX)


@pytest.fixture
def tiny(tmp_path: Path) -> Graph:
    return oracle_graph(TINY, tmp_path)


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


# The gate: every exported graph passes the parser, and nothing else does.


@pytest.mark.parametrize("layout", list(Layout))
@pytest.mark.parametrize("opset", [OPSETS.start, 20, OPSETS.stop - 1])
@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES)
def test_every_exported_graph_passes_the_gate(
    oracle: Oracle, opset: int, layout: Layout, rtx: TensorRT, tmp_path: Path
) -> None:
    graph = oracle_graph(oracle, tmp_path, opset=opset, layout=layout)
    check_graph(graph.model, library=rtx, **graph.specs)


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
    with pytest.raises(BuildError, match="has float64, which TensorRT does not compute with") as caught:
        check_graph(graph.model, library=rtx, **graph.specs)
    assert DOUBLES[edit] in str(caught.value)


def test_the_parser_alone_takes_float64(changed: Callable[..., Graph], rtx: TensorRT) -> None:
    """Why the gate looks for it: should this fail one day, the parser has learned to."""
    graph = changed(double_constant)
    network = rtx.module.Builder(rtx.log.logger).create_network(0)
    assert rtx.module.OnnxParser(network, rtx.log.logger).parse_from_file(str(graph.model))


@pytest.mark.parametrize(
    ("which", "change", "says"),
    [
        ("clips", {"name": "frames"}, "should be frames uint8"),
        ("clips", {"dtype": "float32"}, "should be clips float32"),
        ("clips", {"shape": (None, 64, 383)}, "[batch, 64, 383]; they are clips uint8 [batch, 64, 384]"),
        ("clips", {"shape": (1, 64, 384)}, "[1, 64, 384]"),
        ("logits", {"name": "scores"}, "should be scores float32"),
        ("logits", {"dtype": "float16"}, "should be logits float16"),
        ("logits", {"shape": (None, 6)}, "[batch, 6]; they are logits float32 [batch, 5]"),
    ],
)
def test_the_gate_refuses_other_names_types_and_shapes(
    which: str, change: dict[str, Any], says: str, tiny: Graph, rtx: TensorRT
) -> None:
    specs = {**tiny.specs, which: dataclasses.replace(tiny.specs[which], **change)}
    with pytest.raises(BuildError) as caught:
        check_graph(tiny.model, library=rtx, **specs)
    assert says in str(caught.value)


def test_the_gate_names_the_node_that_the_parser_refuses(changed: Callable[..., Graph], rtx: TensorRT) -> None:
    def invent(model: onnx_ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Softmax")
        node.op_type = "Softestmax"

    graph = changed(invent)
    with pytest.raises(BuildError, match="cannot parse") as caught:
        check_graph(graph.model, library=rtx, **graph.specs)
    assert "Softestmax" in str(caught.value)
    assert str(rtx) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"nothing of a graph" * 20])
def test_the_gate_refuses_what_is_no_graph(content: bytes, tiny: Graph, rtx: TensorRT) -> None:
    tiny.model.write_bytes(content)
    with pytest.raises(BuildError, match=r"cannot be read as an ONNX graph|inputs of .* they are missing"):
        check_graph(tiny.model, library=rtx, **tiny.specs)


def test_the_gate_refuses_a_graph_that_is_not_there(tiny: Graph, rtx: TensorRT) -> None:
    tiny.model.unlink()
    with pytest.raises(BuildError, match="cannot be read"):
        check_graph(tiny.model, library=rtx, **tiny.specs)


def test_the_gate_refuses_a_graph_whose_keyed_tensors_are_gone(tiny: Graph, rtx: TensorRT) -> None:
    (tiny.model.parent / KEYED).unlink()
    with pytest.raises(BuildError, match="cannot parse"):
        check_graph(tiny.model, library=rtx, **tiny.specs)


def test_external_data_in_two_files_is_read(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    model = onnx_ir.load(tiny.model)
    others = [
        value
        for name, value in model.graph.initializers.items()
        if name not in KEYED_TENSORS and value.const_value is not None and value.const_value.size > 8
    ]
    tensors = [value.const_value for value in others if value.const_value is not None]
    moved = onnx_ir.external_data.convert_tensors_to_external(tensors, tmp_path, "two.onnx.data")
    for value, tensor in zip(others, moved, strict=True):
        value.const_value = tensor
    onnx_ir.save(model, tmp_path / "two.onnx")
    raw = onnx.load(tmp_path / "two.onnx", load_external_data=False)
    files = {entry.value for t in raw.graph.initializer for entry in t.external_data if entry.key == "location"}
    assert files == {KEYED, "two.onnx.data"}
    built = build_plan(tmp_path / "two.onnx", tmp_path / "plan", library=rtx, **tiny.specs)
    assert (tmp_path / "plan").stat().st_size > (tmp_path / "two.onnx.data").stat().st_size
    assert built.builder == {TENSORRT_RTX: rtx.version}


# Building, with the real TensorRT-RTX.


def test_a_real_engine_is_built_without_a_gpu(
    tiny: Graph, rtx: TensorRT, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build_plan(
        tiny.model,
        tmp_path / "plan",
        library=rtx,
        options=PlanOptions(profile=Profile(minimum=1, optimum=2, maximum=4), compute_capabilities=("8.6", "12.0")),
        progress=lambda *step: steps.append(step),
        **tiny.specs,
    )
    assert (tmp_path / "plan").stat().st_size > 100_000
    assert built.target == "compute capability 8.6, 12.0"
    assert built.options == {"compute_capabilities": "8.6,12.0"}
    assert steps == [(s, i, 1) for s in ("parsing the graph", "building the engine") for i in (0, 1)]
    assert capfd.readouterr() == ("", "")


def test_plans_of_the_default_target_and_of_one_gpu_differ(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    default = build_plan(tiny.model, tmp_path / "default", library=rtx, **tiny.specs)
    one = PlanOptions(compute_capabilities=("8.9",))
    build_plan(tiny.model, tmp_path / "one", library=rtx, options=one, **tiny.specs)
    assert default.target == f"GPUs that {rtx} builds for by default"
    assert default.options == {}
    assert (tmp_path / "default").read_bytes() != (tmp_path / "one").read_bytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"timing_cache": Path("times")}, "timing_cache has no effect"),
        ({"version_compatible": True}, "version_compatible has no effect"),
        ({"hardware": HardwareCompatibility.AMPERE_PLUS}, "hardware has no effect"),
        ({"compute_capabilities": ("8.6", "9.0")}, "compute_capabilities 9.0 is unknown to it; it knows 7.5, 8.0"),
    ],
)
def test_an_option_that_the_library_lacks_is_an_error(
    options: dict[str, Any], says: str, tiny: Graph, rtx: TensorRT, tmp_path: Path
) -> None:
    with pytest.raises(BuildError) as caught:
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=PlanOptions(**options), **tiny.specs)
    assert says in str(caught.value)
    assert f"{rtx} cannot do what was asked" in str(caught.value)
    assert not (tmp_path / "plan").exists()


def test_every_option_that_is_lacking_is_named_at_once(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    options = PlanOptions(timing_cache=tmp_path / "times", version_compatible=True)
    with pytest.raises(BuildError, match=r"timing_cache .*; version_compatible "):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, **tiny.specs)


@pytest.mark.parametrize("option", ["refittable", "stripped"])
def test_refittable_and_stripped_engines_need_a_gpu_to_be_built(
    option: str, tiny: Graph, rtx: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: None)
    options = PlanOptions(refittable=option == "refittable", stripped=option == "stripped")
    with pytest.raises(BuildError, match=r"not engines that are refittable or stripped, and no NVIDIA GPU"):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, **tiny.specs)
    assert not (tmp_path / "plan").exists()


H200 = Gpu(name="NVIDIA H200", capability="9.0")


@pytest.mark.parametrize("option", ["refittable", "stripped"])
def test_a_gpu_without_kernels_in_the_library_is_told_before_the_build(
    option: str, tiny: Graph, rtx: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an H200 the build of TensorRT-RTX 1.6.1 failed with "CUDA error 222 loading a module"."""
    monkeypatch.setattr(plan_module, "find_gpu", lambda: H200)
    options = PlanOptions(refittable=option == "refittable", stripped=option == "stripped")
    with pytest.raises(BuildError, match=r"expected one of compute capability 7\.5, 8\.0, .*, found NVIDIA H200"):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, **tiny.specs)
    assert not (tmp_path / "plan").exists()


def test_what_a_library_builds_for_is_read_from_its_list(rtx: TensorRT) -> None:
    assert buildable_capabilities(rtx) == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    assert buildable_capabilities(library(fake_gpu.fake_tensorrt())) == ()


def test_a_build_without_enough_workspace_quotes_the_library(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no tactics to implement the operation within workspace limit") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=PlanOptions(workspace=1), **tiny.specs)
    assert "smaller maximum batch" in caught.value.hint
    assert not (tmp_path / "plan").exists()


@pytest.mark.parametrize("outcome", [None, MemoryError()])
def test_out_of_memory_in_a_build_is_one_clear_error(
    outcome: MemoryError | None, tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fake_gpu.fake_tensorrt()

    def fail(builder: Any, network: object, config: object) -> None:
        builder.logger.log(fake_gpu.Severity.ERROR, "Requested amount of GPU memory\n could not be allocated")
        if outcome is not None:
            raise outcome

    monkeypatch.setattr(module.Builder, "build_serialized_network", fail)
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    with pytest.raises(BuildError, match=r"too little memory|GPU memory could not be allocated") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=library(module), **tiny.specs)
    assert "smaller maximum batch" in caught.value.hint
    assert not (tmp_path / "plan").exists()


def test_options_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        PlanOptions(workspace=0)
    with pytest.raises(ValueError, match=r"such as 8\.6, received sm86"):
        PlanOptions(compute_capabilities=("8.0", "sm86"))
    with pytest.raises(ValueError, match="minimum <= optimum"):
        Profile(minimum=2, optimum=1, maximum=4)


def random_videomae_base() -> VideoTransformer:
    """VideoMAE-B in every size; random weights."""
    geometry = dataclasses.replace(GEOMETRY, frames=16, height=224, width=224, cube=(2, 16, 16))
    config = TransformerConfig(geometry=geometry, width=768, depth=12, heads=12, hidden=3072, classes=400)
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape, np.float32) * 0.02 + float(name.endswith(("norm.weight", "1.weight")))
        for name, shape in weight_shapes(config).items()
    }
    return VideoTransformer(config=config, weights=weights, normalisation=IMAGENET)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return write_graph(random_videomae_base(), tmp_path_factory.mktemp("base") / "model.onnx")


def in_fp32(graph: Graph, _: Path) -> Graph:
    return graph


def in_fp16(graph: Graph, folder: Path) -> Graph:
    write_low_precision(graph.model, folder / "model.onnx", Precision.FP16)
    return dataclasses.replace(graph, model=folder / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("write", [in_fp32, in_fp16], ids=["fp32", "fp16"])
def test_a_real_engine_of_the_scrambled_videomae_base(
    write: Callable[[Graph, Path], Graph], base: Graph, rtx: TensorRT, tmp_path: Path
) -> None:
    graph = write(base, tmp_path)
    folder = graph.model.parent
    weights = sum(path.stat().st_size for path in (folder / "model.onnx.data", folder / KEYED))
    build_plan(graph.model, tmp_path / "plan", library=rtx, **graph.specs)
    assert 0.99 * weights < (tmp_path / "plan").stat().st_size < 1.1 * weights


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
@pytest.mark.parametrize("name", ["v1_gamma", "v2_cos", "v1_first_token", "hf_vivit"])
def test_graphs_of_every_precision_pass_the_gate(
    name: str, precision: Precision, rtx: TensorRT, clip: np.ndarray, tmp_path: Path
) -> None:
    graph = oracle_graph(ORACLES[name], tmp_path)
    target = tmp_path / "typed/model.onnx"
    target.parent.mkdir()
    if precision is Precision.INT8:
        encrypted = clip.reshape(1, *(graph.clips.shape[1:]))  # any bytes will do
        write_quantised(graph.model, target, calibrate(graph.model, encrypted))
    else:
        write_low_precision(graph.model, target, precision)
    check_graph(target, library=rtx, **graph.specs)


# Through the command line


def test_an_engine_built_ahead_of_time_is_unproven_until_it_has_run(artifact: Path, tmp_path: Path) -> None:
    server = artifact / "server"
    shown = run_ok("build", server, "--engine", "tensorrt-rtx", "--precision", "fp16", "--batch", "1:2:4")
    assert "unproven, as it cannot run here" in shown
    record = read_engine(server, "tensorrt-rtx-fp16")
    assert record.proof is None
    assert record.profile == Profile(minimum=1, optimum=2, maximum=4)
    assert set(record.files) == {"engine.plan"}
    assert "needs an NVIDIA GPU" in run_error("verify", server, "--engine", "tensorrt-rtx-fp16")
    assert "engine tensorrt-rtx-fp16: not run here" in run_ok("verify", server)
    assert "unproven, built for" in run_ok("inspect", server)
    with pytest.raises(SessionError):
        open_session(server, SessionOptions(engine="tensorrt-rtx-fp16"))


def test_a_failed_build_leaves_nothing(artifact: Path) -> None:
    server = artifact / "server"
    error = run_error("build", server, "--engine", "tensorrt-rtx", "--version-compatible")
    assert "version_compatible has no effect" in error
    assert not (server / "engines").exists()
    assert "expected batch sizes" in run_error("build", server, "--engine", "tensorrt-rtx", "--batch", "4:2:1")


# Building with ``tensorrt``, of which only a stand-in runs here.


def library(module: types.ModuleType, kind: str = TENSORRT) -> TensorRT:
    return TensorRT(kind=kind, name="TensorRT", version=module.__version__, module=module)


def test_tensorrt_gets_a_strongly_typed_network_and_all_options(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module = fake_gpu.fake_tensorrt()
    options = PlanOptions(
        profile=Profile(minimum=2, optimum=3, maximum=5),
        version_compatible=True,
        hardware=HardwareCompatibility.AMPERE_PLUS,
        refittable=True,
        stripped=True,
        workspace=2**20,
    )
    built = build_plan(tiny.model, tmp_path / "plan", library=library(module), options=options, **tiny.specs)
    ((flags, config),) = module.built
    assert flags == 1 << module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert config.flags == {"VERSION_COMPATIBLE", "REFIT", "STRIP_PLAN"}
    assert "TF32" in config.cleared
    assert config.hardware_compatibility_level is module.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.pools == {"WORKSPACE": 2**20}
    assert config.profiles[0].name == "clips"
    assert config.profiles[0].shapes == ((2, 64, 384), (3, 64, 384), (5, 64, 384))
    assert built.target == str(GPU)
    assert built.options == {
        **dict.fromkeys(("version_compatible", "refittable", "stripped"), "true"),
        **{"hardware": "ampere-plus", "workspace": str(2**20)},
    }


def test_a_library_without_weak_typing_needs_no_flag(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module = fake_gpu.fake_tensorrt()
    del module.NetworkDefinitionCreationFlag
    build_plan(tiny.model, tmp_path / "plan", library=library(module), **tiny.specs)
    assert module.built[0][0] == 0


@pytest.mark.parametrize(
    ("enum", "options", "says"),
    [
        ("BuilderFlag", {"stripped": True}, "stripped is unknown to it"),
        (
            "HardwareCompatibilityLevel",
            {"hardware": HardwareCompatibility.SAME_COMPUTE_CAPABILITY},
            "hardware is unknown",
        ),
        ("", {"compute_capabilities": ("8.6",)}, "builds for the GPU of the machine alone"),
    ],
)
def test_an_older_tensorrt_says_what_it_lacks(
    enum: str,
    options: dict[str, Any],
    says: str,
    tiny: Graph,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module = fake_gpu.fake_tensorrt("10.0.1")
    if enum:
        delattr(module, enum)
    with pytest.raises(BuildError, match=r"TensorRT 10\.0\.1 cannot do what was asked") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=library(module), options=PlanOptions(**options), **tiny.specs)
    assert says in str(caught.value)
    assert module.built == []


def test_the_timing_cache_is_read_and_written_back(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module, path = fake_gpu.fake_tensorrt(), tmp_path / "cache"
    for i in (1, 2):
        options = PlanOptions(timing_cache=path)
        build_plan(tiny.model, tmp_path / f"plan{i}", library=library(module), options=options, **tiny.specs)
        assert path.read_bytes() == b"times" * i
    assert [found.name for found in tmp_path.glob(".cache*")] == []


def test_a_foreign_timing_cache_is_refused_and_left_as_it_is(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module, path = fake_gpu.fake_tensorrt(), tmp_path / "cache"
    path.write_bytes(b"something else")
    with pytest.raises(BuildError, match="is not a timing cache of TensorRT"):
        build_plan(
            tiny.model,
            tmp_path / "plan",
            library=library(module),
            options=PlanOptions(timing_cache=path),
            **tiny.specs,
        )
    assert path.read_bytes() == b"something else"
    assert module.built == []


def test_tensorrt_without_a_gpu_does_not_begin(tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: None)
    with pytest.raises(BuildError, match="no NVIDIA GPU with its driver was found here") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=library(fake_gpu.fake_tensorrt()), **tiny.specs)
    assert "tensorrt-rtx" in caught.value.hint


def test_a_library_that_cannot_start_is_one_clear_error(tiny: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_gpu.fake_tensorrt()

    def refuse(builder: object, logger: Any) -> None:
        logger.log(fake_gpu.Severity.WARNING, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(module.Builder, "__init__", refuse)
    with pytest.raises(BuildError, match="cannot start here: CUDA initialization failure"):
        check_graph(tiny.model, library=library(module), **tiny.specs)


# Finding the library and the GPU.


@pytest.mark.parametrize("kind", [TENSORRT, TENSORRT_RTX])
def test_a_missing_library_says_what_to_install(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, kind.replace("-", "_"), None)
    with pytest.raises(MissingDependencyError, match="is not installed") as caught:
        find_tensorrt(kind)
    assert caught.value.hint == f"pip install 'lcve-deploy[{kind}]'"


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of tensorrt, tensorrt-rtx, received 'openvino'"):
        find_tensorrt("openvino")


def test_missing_onnx_ir_says_what_to_install(tiny: Graph, rtx: TensorRT, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(MissingDependencyError, match="onnx-ir") as caught:
        check_graph(tiny.model, library=rtx, **tiny.specs)
    assert caught.value.hint == "pip install 'lcve-deploy[tensorrt-rtx]'"


def test_a_library_has_one_log_for_all_its_objects(rtx: TensorRT) -> None:
    assert find_tensorrt(TENSORRT_RTX).log is rtx.log


@pytest.mark.parametrize(
    ("version", "numbers"), [("11.4.0.106", (11, 4, 0, 106)), ("10.14.1.48.post1", (10, 14, 1, 48)), ("?", ())]
)
def test_versions_are_compared_by_their_numbers(version: str, numbers: tuple[int, ...]) -> None:
    assert numeric_version(version) == numbers


class Driver:
    """A CUDA driver with the functions that are asked."""

    def __init__(self, *, initialised: int = 0, count: int = 1) -> None:
        self.initialised, self.count = initialised, count

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return self.initialised

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGet(self, device: object, number: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: object) -> int:  # noqa: N802
        name.value = b"NVIDIA Nonesuch"
        return 0

    def cuDeviceGetAttribute(self, value: Any, number: int, device: object) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 6}[number]
        return 0


@pytest.mark.parametrize(
    ("driver", "gpu"),
    [(None, None), (Driver(initialised=100), None), (Driver(count=0), None), (Driver(), GPU)],
)
def test_the_driver_says_which_gpu_there_is(
    driver: Driver | None, gpu: Gpu | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "_load_driver", lambda: driver)
    assert find_gpu() == gpu


# Opening and running, with stand-ins for CuPy and TensorRT.


@dataclass(frozen=True)
class Machine:
    """A server folder with a "plan", on a machine that seems to have a GPU."""

    plan: Path
    manifest: Manifest
    module: types.ModuleType

    def open(self, **changes: Any) -> TensorRTSession:
        weights = changes.pop("weights", None)
        fields: dict[str, Any] = {
            "builder": {TENSORRT: self.module.__version__},
            "profile": Profile(minimum=1, optimum=2, maximum=3),
        }
        engine = engine_record(**{**fields, **changes})
        return TensorRTSession(self.plan, self.manifest.model, engine, weights=weights)


def engine_record(*, kind: EngineKind = EngineKind.TENSORRT, **fields: Any) -> EngineRecord:
    """A record in which only what a session reads is worth anything."""
    return EngineRecord(name="x", kind=kind, precision=Precision.FP32, target="", manifest_sha256="0" * 64, **fields)


@pytest.fixture
def machine(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    module = fake_gpu.fake_tensorrt()
    for name, fake in {"tensorrt": module, **fake_gpu.fake_cupy()}.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda: GPU)
    plan = tmp_path / "server/engines/tensorrt-fp32/engine.plan"
    plan.parent.mkdir(parents=True)
    plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx"))
    return Machine(plan, read_manifest(exported / "server"), module)


def encrypted(manifest: Manifest, clip: np.ndarray, batch: int) -> EncryptedClip:
    shifted = np.stack([np.roll(clip, i, axis=1) for i in range(batch)])
    orders = derive_orders(
        SecurityKey(SECRET), salt=bytes.fromhex(manifest.binding.salt), geometry=manifest.binding.geometry
    )
    return encrypt(PlainClip(values=shifted), orders)


def test_a_session_answers_as_onnx_runtime_does(machine: Machine, exported: Path, clip: np.ndarray) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    for batch in (1, 3, 2):
        clips = encrypted(machine.manifest, clip, batch)
        logits = session.run(clips)
        assert logits.dtype == np.float32
        assert logits.shape == (batch, 5)
        np.testing.assert_allclose(logits, reference.run(clips), atol=1e-6)
    assert session.model is machine.manifest.model
    assert session.device == f"TensorRT 11.4.0.106 on {GPU}"


def test_answers_stay_when_the_next_batch_runs(machine: Machine, clip: np.ndarray) -> None:
    session = machine.open()
    clips = encrypted(machine.manifest, clip, 2)
    first = session.run(clips)
    kept = first.copy()
    session.run(EncryptedClip(values=clips.values[::-1], binding=clips.binding))
    np.testing.assert_array_equal(first, kept)


def test_a_batch_on_the_device_is_read_in_place_once_its_stream_has_filled_it(
    machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    clips = encrypted(machine.manifest, clip, 2)
    on_device = fake_gpu.Array(np.zeros_like(clips.values))
    on_device.set(clips.values, stream=fake_gpu.Stream.current)  # queued, not done
    logits = session.run(EncryptedClip(values=on_device, binding=clips.binding))
    np.testing.assert_allclose(logits, reference.run(clips), atol=1e-6)
    assert session._context.addresses["clips"] == on_device.data.ptr


def test_a_batch_on_the_device_that_is_not_contiguous_is_made_so(
    machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    clips = encrypted(machine.manifest, clip, 2)
    apart = fake_gpu.Array(np.repeat(clips.values, 2, axis=2)[:, :, ::2])
    logits = machine.open().run(EncryptedClip(values=apart, binding=clips.binding))
    np.testing.assert_allclose(logits, open_session(exported / "server").run(clips), atol=1e-6)


def test_a_batch_on_another_gpu_is_refused(machine: Machine, clip: np.ndarray) -> None:
    clips = encrypted(machine.manifest, clip, 1)
    elsewhere = EncryptedClip(values=fake_gpu.Array(clips.values, device=1), binding=clips.binding)
    with pytest.raises(ValueError, match="runs on GPU 0, the clips are on GPU 1"):
        machine.open().run(elsewhere)


def test_threads_take_turns(machine: Machine, exported: Path, clip: np.ndarray) -> None:
    session, reference = machine.open(), open_session(exported / "server")
    batches = [encrypted(machine.manifest, np.roll(clip, 3 * i, axis=2), 2) for i in range(8)]
    answers: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: answers.update({i: session.run(batches[i])})) for i in range(len(batches))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, batch in enumerate(batches):
        np.testing.assert_allclose(answers[i], reference.run(batch), atol=1e-6)


@pytest.mark.parametrize("on_device", [False, True])
@pytest.mark.parametrize("clips", [1, 2, 4, 7])
def test_any_number_of_clips_is_answered_by_an_engine_of_some_batch_sizes(
    clips: int, on_device: bool, machine: Machine, exported: Path, clip: np.ndarray
) -> None:
    machine.plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx", (2, 2, 3)))
    session = machine.open(profile=Profile(minimum=2, optimum=2, maximum=3))
    stack = encrypted(machine.manifest, clip, clips)
    values = fake_gpu.Array(stack.values) if on_device else stack.values
    logits = session.run(EncryptedClip(values=values, binding=stack.binding))
    np.testing.assert_allclose(logits, open_session(exported / "server").run(stack), atol=1e-6)


@pytest.mark.gpu
def test_gpu_few_clips_on_the_device_fill_a_batch() -> None:
    import cupy

    seen: list[list[int]] = []

    def run(values: Any) -> np.ndarray:
        seen.append(cupy.asnumpy(values[:, 0]).tolist())
        return cupy.asnumpy(values).astype(np.float32)

    clips = cupy.arange(3, dtype=np.uint8)[:, None]
    logits = run_within(clips, Profile(minimum=2, optimum=2, maximum=2), run)
    assert seen == [[0, 1], [2, 2]]
    np.testing.assert_array_equal(logits[:, 0], [0, 1, 2])


def test_no_clip_is_refused_before_anything_runs(machine: Machine, clip: np.ndarray) -> None:
    session, clips = machine.open(), encrypted(machine.manifest, clip, 1)
    with pytest.raises(ValueError, match="expected at least one clip, received none"):
        session.run(EncryptedClip(values=clips.values[:0], binding=clips.binding))
    assert session._context.shapes == {}


def test_a_clip_of_another_artifact_is_refused_before_anything_runs(machine: Machine, clip: np.ndarray) -> None:
    session = machine.open()
    orders = derive_orders(SecurityKey(SECRET), salt=bytes(16), geometry=GEOMETRY)
    with pytest.raises(MismatchError, match="salt"):
        session.run(encrypt(PlainClip(values=clip[None]), orders))
    assert session._context.shapes == {}


@pytest.mark.parametrize(
    ("built_with", "compatible", "opens"),
    [
        ("11.4.0.106", False, True),
        ("11.3.0.99", False, False),
        ("11.3.0.99", True, True),
        ("12.0.0.1", True, False),
        ("12.0.0.1", False, False),
    ],
)
def test_an_engine_of_another_version_says_which_and_how_to_rebuild(
    built_with: str, compatible: bool, opens: bool, machine: Machine
) -> None:
    if opens:
        session = machine.open(
            builder={TENSORRT: built_with}, options={"version_compatible": "yes"} if compatible else {}
        )
        assert getattr(session._runtime, "engine_host_code_allowed", False) is compatible
        return
    with pytest.raises(SessionError, match=f"was built by TensorRT {built_with}.*here is TensorRT 11") as caught:
        machine.open(builder={TENSORRT: built_with}, options={"version_compatible": "yes"} if compatible else {})
    assert f"lcve build {machine.plan.parents[2]} --engine tensorrt" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"plan", b"PK\x03\x04 a foreign file"])
def test_a_truncated_or_foreign_plan_is_one_clear_error(content: bytes, machine: Machine) -> None:
    machine.plan.write_bytes(content)
    with pytest.raises(SessionError, match=r"is damaged, or no engine of TensorRT 11.*magic tag does not match"):
        machine.open()


def test_the_real_library_refuses_a_truncated_plan(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    from lcve_deploy.runtime.backends import tensorrt as room

    build_plan(tiny.model, tmp_path / "plan", library=rtx, **tiny.specs)
    content = (tmp_path / "plan").read_bytes()
    (tmp_path / "plan").write_bytes(content[: len(content) // 2])
    runtime = rtx.module.Runtime(rtx.log.logger)
    with pytest.raises(SessionError, match=r"plan"):
        room._open(tmp_path / "plan", runtime, rtx)


@pytest.mark.parametrize(
    ("diagnostics", "error", "says"),
    [
        (["UNSUPPORTED_CC"], DeviceError, "it is not for this GPU"),
        (["OLD_CUDA_DRIVER", "CUDA_ERROR"], DeviceError, "the GPU's driver is too old, CUDA does not work"),
        (["VERSION_MISMATCH"], SessionError, "another version built it"),
        (["VERSION_MISMATCH", "UNSUPPORTED_CC"], SessionError, "another version built it, it is not for this GPU"),
        ([], SessionError, "it gave no reason"),
    ],
)
def test_what_the_library_knows_from_the_header_is_said(
    diagnostics: list[str], error: type[SessionError], says: str, machine: Machine, rtx: TensorRT
) -> None:
    for name in ("EngineValidity", "EngineInvalidityDiagnostics"):  # which TensorRT-RTX alone has
        setattr(machine.module, name, getattr(rtx.module, name))
    flags = machine.module.EngineInvalidityDiagnostics.__members__
    found = sum(int(flags[name]) for name in diagnostics)
    validity = machine.module.EngineValidity
    machine.module.Runtime.get_engine_validity = lambda runtime, content: (validity.VALID, 0)
    assert machine.open().device
    machine.module.Runtime.get_engine_validity = lambda runtime, content: (validity.INVALID, found)
    with pytest.raises(SessionError, match=r"cannot run .* on this machine") as caught:
        machine.open()
    assert type(caught.value) is error
    assert sorted(str(caught.value).split("this machine: ")[1].split(", ")) == sorted(says.split(", "))
    assert "rebuild the engine here" in caught.value.hint


def test_no_rebuild_is_advised_where_the_library_has_no_kernels_for_the_gpu(
    machine: Machine, rtx: TensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EngineValidity", "EngineInvalidityDiagnostics", "ComputeCapability"):
        setattr(machine.module, name, getattr(rtx.module, name))
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda: H200)
    found = int(machine.module.EngineInvalidityDiagnostics.UNSUPPORTED_CC)
    machine.module.Runtime.get_engine_validity = lambda *_: (machine.module.EngineValidity.INVALID, found)
    with pytest.raises(DeviceError, match="it is not for this GPU") as caught:
        machine.open()
    assert "has no kernels for NVIDIA H200 (compute capability 9.0)" in caught.value.hint
    assert "--engine onnxruntime --provider cuda" in caught.value.hint
    assert "rebuild the engine here" not in caught.value.hint


def test_a_stripped_plan_gets_its_weights_when_it_is_opened(
    machine: Machine, tmp_path: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = oracle_graph(TINY, tmp_path, salt=bytes(16))
    clips = encrypted(machine.manifest, clip, 2)
    (expected,) = onnxruntime.InferenceSession(graph.model).run(["logits"], {"clips": clips.values})
    np.testing.assert_allclose(machine.open(weights=graph.model).run(clips), expected, atol=1e-6)
    monkeypatch.setattr(machine.module.OnnxParserRefitter, "refit_from_file", lambda parser, path: False)
    with pytest.raises(SessionError, match="do not fit"):
        machine.open(weights=graph.model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": TensorSpec(name="clips", dtype="uint8", shape=(None, 64, 385))}, "385"),
        ({"output": TensorSpec(name="logits", dtype="float16", shape=(None, 5))}, "float16"),
        ({"output": TensorSpec(name="scores", dtype="float32", shape=(None, 5))}, "scores"),
    ],
)
def test_an_engine_that_is_not_what_the_manifest_says_is_refused(
    change: dict[str, Any], says: str, machine: Machine
) -> None:
    other = dataclasses.replace(
        machine,
        manifest=dataclasses.replace(machine.manifest, model=dataclasses.replace(machine.manifest.model, **change)),
    )
    with pytest.raises(SessionError, match=f"its manifest says .*{says}"):
        other.open()


def test_an_engine_of_other_batches_than_its_record_says_is_refused(machine: Machine) -> None:
    with pytest.raises(SessionError, match=r"built for batches of \(1, 2, 3\), its record says 1:2:8"):
        machine.open(profile=Profile(minimum=1, optimum=2, maximum=8))


def test_opening_without_a_gpu_is_one_sentence(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda: None)
    with pytest.raises(DeviceError) as caught:
        machine.open()
    assert str(caught.value) == "TensorRT needs an NVIDIA GPU and its driver, and none was found here"
    assert "CPU" in caught.value.hint


@pytest.mark.skipif(find_gpu() is not None, reason="this machine has a GPU")
def test_a_real_engine_on_this_machine_without_a_gpu_is_one_sentence(
    tiny: Graph, rtx: TensorRT, exported: Path, tmp_path: Path
) -> None:
    build_plan(tiny.model, tmp_path / "plan", library=rtx, **tiny.specs)
    with pytest.raises(SessionError, match="TensorRT-RTX needs an NVIDIA GPU and its driver, and none was found here"):
        open_real(tmp_path / "plan", read_manifest(exported / "server"), rtx, Profile())


def test_missing_cupy_says_what_to_install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingDependencyError, match="CuPy") as caught:
        machine.open()
    assert caught.value.hint == "pip install 'lcve-deploy[tensorrt]'"


def test_too_little_memory_for_the_buffers_is_one_clear_error(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(shape: object, dtype: object) -> None:
        raise fake_gpu.OutOfMemoryError("Out of memory allocating 9,999 bytes")

    monkeypatch.setattr(sys.modules["cupy"], "empty", full)
    with pytest.raises(SessionError, match="too little memory to open the engine: Out of memory") as caught:
        machine.open()
    assert "smaller maximum batch" in caught.value.hint


def test_too_little_memory_for_the_engine_is_one_clear_error(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_gpu.Engine, "create_execution_context", lambda engine: None)
    with pytest.raises(SessionError, match="cannot prepare the engine") as caught:
        machine.open()
    assert "smaller maximum batch" in caught.value.hint


def test_a_run_that_fails_is_one_clear_error(
    machine: Machine, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, clips = machine.open(), encrypted(machine.manifest, clip, 1)

    def fail(stream: object) -> None:
        raise fake_gpu.CUDARuntimeError("cudaErrorIllegalAddress")

    monkeypatch.setattr(fake_gpu.Context, "execute_async_v3", lambda context, stream: False)
    with pytest.raises(SessionError, match=r"TensorRT 11\.4\.0\.106 failed: it gave no reason"):
        session.run(clips)
    monkeypatch.undo()
    monkeypatch.setattr(fake_gpu.Stream, "synchronize", fail)
    with pytest.raises(SessionError, match="CUDA could not run the engine: cudaErrorIllegalAddress"):
        session.run(clips)


# Refitting, with the same stand-ins.


@pytest.fixture
def refit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    monkeypatch.setattr("lcve_deploy.exporters.tensorrt.refit.find_gpu", lambda: GPU)
    return lambda model, target: refit_plan(machine.plan, model, target, library=library(machine.module))


def test_a_refitted_plan_answers_with_the_new_weights(
    refit: Callable[..., None], machine: Machine, tmp_path: Path, clip: np.ndarray
) -> None:
    rotated = oracle_graph(TINY, tmp_path, salt=bytes(16))
    refit(rotated.model, tmp_path / "refitted.plan")
    clips = encrypted(machine.manifest, clip, 2)
    logits = dataclasses.replace(machine, plan=tmp_path / "refitted.plan").open().run(clips)
    (expected,) = onnxruntime.InferenceSession(rotated.model).run(["logits"], {"clips": clips.values})
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert not np.allclose(logits, machine.open().run(clips), atol=1e-3)


def test_a_refitted_plan_keeps_its_weights_and_stays_refittable(
    refit: Callable[..., None], tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs: list[fake_gpu.Config] = []
    monkeypatch.setattr(fake_gpu.Engine, "serialize_with_config", lambda engine, c: configs.append(c) or b"plan")
    refit(tiny.model, tmp_path / "refitted.plan")
    assert configs[0].cleared == {"EXCLUDE_WEIGHTS"}
    assert configs[0].flags == {"INCLUDE_REFIT"}


def test_weights_that_do_not_fit_are_refused_by_name(
    refit: Callable[..., None], machine: Machine, tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.module.Refitter, "refit_cuda_engine", lambda refitter: False)
    monkeypatch.setattr(machine.module.Refitter, "get_missing_weights", lambda refitter: ["head.bias"])
    with pytest.raises(BuildError, match=r"do not fit .*weights missing: head\.bias"):
        refit(tiny.model, tmp_path / "refitted.plan")
    monkeypatch.setattr(machine.module.OnnxParserRefitter, "refit_from_file", lambda parser, path: False)
    with pytest.raises(BuildError, match="do not fit"):
        refit(tiny.model, tmp_path / "refitted.plan")
    assert not (tmp_path / "refitted.plan").exists()


def test_a_plan_with_fixed_weights_is_not_refitted(
    refit: Callable[..., None], machine: Machine, tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_gpu.Engine, "refittable", False)
    with pytest.raises(BuildError, match="was not built refittable"):
        refit(tiny.model, tmp_path / "refitted.plan")


def test_refitting_refuses_a_damaged_plan_and_a_machine_without_a_gpu(
    refit: Callable[..., None], machine: Machine, tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.plan.write_bytes(b"damaged")
    with pytest.raises(BuildError, match="cannot open"):
        refit(tiny.model, tmp_path / "refitted.plan")
    monkeypatch.setattr("lcve_deploy.exporters.tensorrt.refit.find_gpu", lambda: None)
    with pytest.raises(BuildError, match="refits engines on a GPU, and no NVIDIA GPU"):
        refit(tiny.model, tmp_path / "refitted.plan")


# On hardware. On an H200 the test of encryption passed; TensorRT-RTX refused the card, TensorRT was not there.


@pytest.fixture
def real(request: pytest.FixtureRequest) -> TensorRT:
    """Whichever library is installed on the machine with the GPU."""
    try:
        return find_tensorrt(TENSORRT)
    except MissingDependencyError:
        return find_tensorrt(TENSORRT_RTX)


def open_real(plan: Path, manifest: Manifest, real: TensorRT, profile: Profile) -> TensorRTSession:
    engine = engine_record(kind=EngineKind(real.kind), builder={real.kind: real.version}, profile=profile)
    return TensorRTSession(plan, manifest.model, engine)


@pytest.mark.gpu
def test_gpu_an_engine_answers_as_onnx_runtime_does(
    real: TensorRT, exported: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    import cupy

    server, profile = exported / "server", Profile(minimum=1, optimum=2, maximum=4)
    manifest, reference = read_manifest(server), open_session(server)
    build_plan(
        server / "model.onnx",
        tmp_path / "plan",
        clips=manifest.input,
        logits=manifest.output,
        library=real,
        options=PlanOptions(profile=profile),
    )
    session = open_real(tmp_path / "plan", manifest, real, profile)
    for batch in (1, 4, 2):
        clips = encrypted(manifest, clip, batch)
        expected = reference.run(clips)
        np.testing.assert_allclose(session.run(clips), expected, atol=1e-4)
        on_device = EncryptedClip(values=cupy.asarray(clips.values), binding=clips.binding)
        np.testing.assert_allclose(session.run(on_device), expected, atol=1e-4)


@pytest.mark.gpu
def test_gpu_encryption_on_the_device_gives_the_same_bytes(key: SecurityKey, clip: np.ndarray) -> None:
    import cupy

    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    on_device = encrypt(PlainClip(values=cupy.asarray(clip[None])), orders)
    np.testing.assert_array_equal(on_device.values.get(), encrypt(PlainClip(values=clip[None]), orders).values)


@pytest.mark.gpu
@pytest.mark.parametrize("stripped", [False, True])
def test_gpu_a_refitted_engine_answers_with_the_new_weights(
    stripped: bool, real: TensorRT, exported: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    manifest = read_manifest(exported / "server")
    rotated = oracle_graph(TINY, tmp_path, salt=bytes(16))
    options = PlanOptions(profile=Profile(), refittable=True, stripped=stripped)
    build_plan(exported / "server/model.onnx", tmp_path / "plan", library=real, options=options, **rotated.specs)
    refit_plan(tmp_path / "plan", rotated.model, tmp_path / "refitted", library=real)
    clips = encrypted(manifest, clip, 2)
    logits = open_real(tmp_path / "refitted", manifest, real, Profile()).run(clips)
    (expected,) = onnxruntime.InferenceSession(rotated.model).run(["logits"], {"clips": clips.values})
    np.testing.assert_allclose(logits, expected, atol=1e-4)


class MarkedItem:
    """A test with the marker ``gpu``, as pytest hands it to hooks."""

    def get_closest_marker(self, name: str) -> bool:
        return name == "gpu"


@pytest.mark.parametrize(("required", "outcome"), [("0", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_variable_turns_skipping_without_a_gpu_into_failure(
    required: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conftest, "find_gpu", lambda: None)
    monkeypatch.setenv("LCVE_REQUIRE_GPU", required)
    with pytest.raises(outcome, match="no NVIDIA GPU"):
        conftest.pytest_runtest_setup(cast(pytest.Item, MarkedItem()))
