"""Refitting, with the same stand-ins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from lcve_deploy.errors import BuildError
from lcve_deploy.exporters.tensorrt import (
    refit_plan,
)
from tests.support import fake_gpu
from tests.tensorrt.helpers import (
    GPU,
    TINY,
    Graph,
    Machine,
    encrypted,
    library,
    oracle_graph,
)


@pytest.fixture
def refit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    monkeypatch.setattr("lcve_deploy.exporters.tensorrt.refit.find_gpu", lambda: GPU)
    return lambda model, target: refit_plan(machine.plan, model, target, library=library(machine.module))


def test_a_refitted_plan_answers_with_the_new_weights(
    refit: Callable[..., None], machine: Machine, tmp_path: Path, clip: np.ndarray
) -> None:
    rotated = oracle_graph(TINY, tmp_path, salt=bytes(16))
    refit(rotated.model, tmp_path / "refitted.plan")
    clips = encrypted(machine.server, clip, 2)
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
    with pytest.raises(BuildError, match="needs a GPU to refit engines, and no NVIDIA GPU"):
        refit(tiny.model, tmp_path / "refitted.plan")


def test_a_library_that_returns_nothing_is_one_clear_error(
    refit: Callable[..., None], machine: Machine, tiny: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(runtime: object, logger: object) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    for name in ("serialize_with_config", "create_serialization_config"):
        with monkeypatch.context() as patch:
            patch.setattr(fake_gpu.Engine, name, lambda *_: None)
            with pytest.raises(BuildError, match="could not write the refitted engine: it gave no reason"):
                refit(tiny.model, tmp_path / "refitted.plan")
    monkeypatch.setattr(machine.module.Runtime, "__init__", nothing)
    with pytest.raises(BuildError, match="cannot start here") as caught:
        refit(tiny.model, tmp_path / "refitted.plan")
    assert "driver" in caught.value.hint
    assert not (tmp_path / "refitted.plan").exists()
