"""Building with ``tensorrt``, of which only a stand-in runs here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact import Profile
from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.tensorrt import (
    HardwareCompatibility,
    PlanOptions,
    build_plan,
    check_graph,
)
from lcve_deploy.exporters.tensorrt import plan as plan_module
from lcve_deploy.exporters.tensorrt.timing import write_timing_cache
from tests.support import fake_gpu
from tests.tensorrt.helpers import (
    GPU,
    Graph,
    library,
)


def test_tensorrt_gets_a_strongly_typed_network_and_all_options(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module = fake_gpu.fake_tensorrt()
    options = PlanOptions(
        profile=Profile(minimum=2, optimum=3, maximum=5),
        version_compatible=True,
        hardware=HardwareCompatibility.AMPERE_PLUS,
        max_keys=4,
        stripped=True,
        workspace=2**20,
    )
    built = build_plan(tiny.model, tmp_path / "plan", library=library(module), options=options, spec=tiny.spec)
    ((flags, config),) = module.built
    assert flags == 1 << module.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    assert config.flags == {"VERSION_COMPATIBLE", "STRIP_PLAN"}
    assert "TF32" in config.cleared
    assert config.hardware_compatibility_level is module.HardwareCompatibilityLevel.AMPERE_PLUS
    assert config.pools == {"WORKSPACE": 2**20}
    assert config.profiles[0].by_name == {
        "clips": ((2, 64, 384), (3, 64, 384), (5, 64, 384)),
        "key": ((2,), (3,), (5,)),
        "bank.cube_embedding.weight": ((1, 384, 48), (3, 384, 48), (4, 384, 48)),
        "bank.positional_encoding": ((1, 64, 48), (3, 64, 48), (4, 64, 48)),
        "bank.head.weight": ((1, 48, 5), (3, 48, 5), (4, 48, 5)),
        "bank.head.bias": ((1, 5), (3, 5), (4, 5)),
    }
    assert built.target == str(GPU)
    assert built.options == {
        **dict.fromkeys(("version_compatible", "stripped"), "true"),
        **{"max_keys": "4", "hardware": "ampere-plus", "workspace": str(2**20)},
    }


def test_a_library_without_weak_typing_needs_no_flag(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module = fake_gpu.fake_tensorrt()
    del module.NetworkDefinitionCreationFlag
    build_plan(tiny.model, tmp_path / "plan", library=library(module), spec=tiny.spec)
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
        ("", {"compute_capabilities": ("8.6",)}, "builds only for the GPU of the machine"),
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
    with pytest.raises(BuildError, match=r"TensorRT 10\.0\.1 does not support these options") as caught:
        build_plan(
            tiny.model, tmp_path / "plan", library=library(module), options=PlanOptions(**options), spec=tiny.spec
        )
    assert says in str(caught.value)
    assert module.built == []


def test_the_timing_cache_is_read_and_written_back(
    tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module, path = fake_gpu.fake_tensorrt(), tmp_path / "cache"
    for i in (1, 2):
        options = PlanOptions(timing_cache=path)
        build_plan(tiny.model, tmp_path / f"plan{i}", library=library(module), options=options, spec=tiny.spec)
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
            spec=tiny.spec,
        )
    assert path.read_bytes() == b"something else"
    assert module.built == []


def test_tensorrt_without_a_gpu_does_not_begin(tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: None)
    with pytest.raises(BuildError, match="no NVIDIA GPU with its driver was found") as caught:
        build_plan(tiny.model, tmp_path / "plan", library=library(fake_gpu.fake_tensorrt()), spec=tiny.spec)
    assert "tensorrt-rtx" in caught.value.hint


def test_a_library_that_cannot_start_is_one_clear_error(tiny: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_gpu.fake_tensorrt()

    def refuse(builder: object, logger: Any) -> None:
        logger.log(fake_gpu.Severity.WARNING, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(module.Builder, "__init__", refuse)
    with pytest.raises(BuildError, match="cannot start here: CUDA initialization failure"):
        check_graph(tiny.model, library=library(module), spec=tiny.spec)


def test_a_timing_cache_that_the_library_does_not_return_is_one_clear_error(tmp_path: Path) -> None:
    class Nothing:
        def serialize(self) -> None:
            """Return nothing."""

    with pytest.raises(BuildError, match="returned no timing cache"):
        write_timing_cache(Nothing(), tmp_path / "times")
    assert not (tmp_path / "times").exists()
