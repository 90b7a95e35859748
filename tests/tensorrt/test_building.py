"""Building, with the real TensorRT-RTX."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.artifact import Profile
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.low_precision import write_low_precision
from lcve_deploy.exporters.tensorrt import (
    HardwareCompatibility,
    PlanOptions,
    build_plan,
    check_graph,
)
from lcve_deploy.exporters.tensorrt import plan as plan_module
from lcve_deploy.libraries.tensorrt import (
    TensorRT,
    buildable_capabilities,
)
from lcve_deploy.model.precision import Precision
from lcve_deploy.model.transformer import IMAGENET, TransformerConfig, VideoTransformer, weight_shapes
from tests.conftest import GEOMETRY, ORACLES
from tests.support import fake_gpu
from tests.support.common_form import CASES, drawn
from tests.tensorrt.helpers import (
    GPU,
    H200,
    Graph,
    library,
    oracle_graph,
    typed,
    write_graph,
)


def test_a_real_engine_is_built_without_a_gpu(
    tiny: Graph, rtx: TensorRT, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[tuple[str, int, int]] = []
    built = build_plan(
        tiny.model,
        tmp_path / "plan",
        library=rtx,
        options=PlanOptions(
            profile=Profile(minimum=1, optimum=2, maximum=4), max_keys=100, compute_capabilities=("8.6", "12.0")
        ),
        progress=lambda *step: steps.append(step),
        spec=tiny.spec,
    )
    assert (tmp_path / "plan").stat().st_size > 100_000
    assert built.target == "compute capability 8.6, 12.0"
    assert built.options == {"max_keys": "100", "compute_capabilities": "8.6,12.0"}
    assert steps == [(s, i, 1) for s in ("parsing the graph", "building the engine") for i in (0, 1)]
    assert capfd.readouterr() == ("", "")


def test_plans_of_the_default_target_and_of_one_gpu_differ(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    default = build_plan(tiny.model, tmp_path / "default", library=rtx, spec=tiny.spec)
    one = PlanOptions(compute_capabilities=("8.9",))
    build_plan(tiny.model, tmp_path / "one", library=rtx, options=one, spec=tiny.spec)
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
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=PlanOptions(**options), spec=tiny.spec)
    assert says in str(caught.value)
    assert f"{rtx} does not support these options" in str(caught.value)
    assert not (tmp_path / "plan").exists()


def test_every_option_that_is_lacking_is_named_at_once(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    options = PlanOptions(timing_cache=tmp_path / "times", version_compatible=True)
    with pytest.raises(BuildError, match=r"timing_cache .*; version_compatible "):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, spec=tiny.spec)


def test_stripped_engines_need_a_gpu_to_be_built(
    tiny: Graph, rtx: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: None)
    options = PlanOptions(stripped=True)
    with pytest.raises(BuildError, match=r"needs a GPU to build stripped engines, and no NVIDIA GPU"):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, spec=tiny.spec)
    assert not (tmp_path / "plan").exists()


def test_a_gpu_without_kernels_in_the_library_is_told_before_the_build(
    tiny: Graph, rtx: TensorRT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an H200 the build of TensorRT-RTX 1.6.1 failed with "CUDA error 222 loading a module"."""
    monkeypatch.setattr(plan_module, "find_gpu", lambda: H200)
    options = PlanOptions(stripped=True)
    with pytest.raises(BuildError, match=r"expected one of compute capability 7\.5, 8\.0, .*, found NVIDIA H200"):
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=options, spec=tiny.spec)
    assert not (tmp_path / "plan").exists()


def test_what_a_library_builds_for_is_read_from_its_list(rtx: TensorRT) -> None:
    assert buildable_capabilities(rtx) == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
    assert buildable_capabilities(library(fake_gpu.fake_tensorrt())) == ()


def test_a_build_without_enough_workspace_quotes_the_library(tiny: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no tactics to implement the operation within workspace limit") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=rtx, options=PlanOptions(workspace=1), spec=tiny.spec)
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
        build_plan(tiny.model, tmp_path / "plan", library=library(module), spec=tiny.spec)
    assert "smaller maximum batch" in caught.value.hint
    assert not (tmp_path / "plan").exists()


def test_options_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least 1 byte"):
        PlanOptions(workspace=0)
    with pytest.raises(ValueError, match="at least 1 key"):
        PlanOptions(max_keys=0)
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
    weights = (graph.model.parent / "model.onnx.data").stat().st_size
    build_plan(graph.model, tmp_path / "plan", library=rtx, spec=graph.spec)
    assert 0.99 * weights < (tmp_path / "plan").stat().st_size < 1.1 * weights


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
@pytest.mark.parametrize("name", ["v1_gamma", "v2_cos", "v1_first_token", "hf_vivit"])
def test_graphs_of_every_precision_pass_the_gate(
    name: str, precision: Precision, rtx: TensorRT, clip: np.ndarray, tmp_path: Path
) -> None:
    graph = oracle_graph(ORACLES[name], tmp_path)
    encrypted = clip.reshape(1, *(graph.spec.input.shape[1:]))  # any bytes will do
    check_graph(typed(graph, precision, encrypted, tmp_path), library=rtx, spec=graph.spec)


@pytest.mark.parametrize("name", ["V-JEPA 2", "relative positions", "RMS by head", "gated", "features", "tokens"])
def test_plans_of_the_common_form_are_built(name: str, rtx: TensorRT, tmp_path: Path) -> None:
    """Tables of positions are inputs of the plan, and an index of int64 is one."""
    graph = write_graph(drawn(CASES[name]), tmp_path / "model.onnx")
    encrypted = np.zeros((1, *(size or 1 for size in graph.spec.input.shape[1:])), np.uint8)
    for precision in (Precision.FP16, Precision.INT8):
        check_graph(typed(graph, precision, encrypted, tmp_path), library=rtx, spec=graph.spec)
    plan = typed(graph, Precision.BF16, encrypted, tmp_path)
    build_plan(plan, tmp_path / "plan", library=rtx, spec=graph.spec)
    assert (tmp_path / "plan").stat().st_size > plan.stat().st_size / 2
