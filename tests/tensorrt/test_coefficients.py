"""Graphs and sessions of ``lcve-dct-1``: integers in float16, and a step for each clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, PlainClip, SecurityKey, open_session
from lcve_deploy.artifact import Profile, read_manifest
from lcve_deploy.client import Client
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.tensorrt import PlanOptions, build_plan, check_graph
from lcve_deploy.exporters.tensorrt import plan as plan_module
from lcve_deploy.libraries.tensorrt import TensorRT
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.build import read_sample
from lcve_deploy.verbs.export import ExportOptions, export
from tests.conftest import ORACLES, SALT, SECRET
from tests.support import fake_gpu
from tests.tensorrt.helpers import GPU, Graph, Machine, library, open_real, typed


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, oracle = tmp_path_factory.mktemp("dct") / "a", ORACLES["v1_first_token"]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=Scheme.DCT)
    export(oracle.path, folder, key=SecurityKey(SECRET), options=options)
    return folder


@pytest.fixture
def clips(artifact: Path, clip: np.ndarray) -> list[EncryptedClip]:
    """Clips of different steps."""
    client = Client.open(artifact / "client", SecurityKey(SECRET))
    plain = PlainClip(values=np.stack([clip, clip[::-1]]))
    return [client.encrypt(plain, step=step) for step in (4.0, 16.0, 90.0)]


@pytest.fixture
def coefficient_machine(machine: Machine, artifact: Path) -> Machine:
    server = artifact / "server"
    return dataclasses.replace(machine, server=server, manifest=read_manifest(server))


@pytest.fixture
def graph(artifact: Path, clips: list[EncryptedClip]) -> Graph:
    server, manifest = artifact / "server", read_manifest(artifact / "server")
    return Graph(server / "model.onnx", manifest.model, dict(read_sample(server, manifest, clips[0], None).tensors))


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_graphs_of_every_precision_pass_the_gate(
    graph: Graph, clips: list[EncryptedClip], precision: Precision, rtx: TensorRT, tmp_path: Path
) -> None:
    check_graph(typed(graph, precision, clips[0].values, tmp_path), spec=graph.spec, library=rtx)


def test_a_real_engine_is_built_without_a_gpu(graph: Graph, rtx: TensorRT, tmp_path: Path) -> None:
    built = build_plan(graph.model, tmp_path / "plan", spec=graph.spec, library=rtx)
    assert built.target == f"GPUs that {rtx} builds for by default"
    assert (tmp_path / "plan").stat().st_size > 100_000


def test_the_profile_has_a_step_for_each_clip(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    module, options = fake_gpu.fake_tensorrt(), PlanOptions(profile=Profile(minimum=2, optimum=3, maximum=5))
    build_plan(graph.model, tmp_path / "plan", library=library(module), options=options, spec=graph.spec)
    ((_, config),) = module.built
    shapes = config.profiles[0].by_name
    assert shapes["step"] == shapes["key"] == ((2,), (3,), (5,))
    assert shapes["clips"] == tuple((batch, *graph.spec.input.shape[1:]) for batch in (2, 3, 5))


@pytest.mark.gpu
def test_gpu_an_engine_answers_as_the_graph_does(
    real: TensorRT, artifact: Path, graph: Graph, clips: list[EncryptedClip], tmp_path: Path
) -> None:
    server, profile = artifact / "server", Profile(minimum=1, optimum=2, maximum=4)
    build_plan(graph.model, tmp_path / "plan", spec=graph.spec, library=real, options=PlanOptions(profile=profile))
    received = open_real(tmp_path / "plan", server, real, profile).run_batch(clips)
    np.testing.assert_allclose(received, open_session(server).run_batch(clips), atol=1e-4)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (4, 4, 4), (1, 1, 1)])
def test_a_session_answers_as_the_graph_does(
    coefficient_machine: Machine, artifact: Path, clips: list[EncryptedClip], sizes: tuple[int, int, int]
) -> None:
    machine = coefficient_machine
    machine.plan.write_bytes(fake_gpu.plan_of(artifact / "server/model.onnx", sizes))
    session = machine.open(profile=Profile(minimum=sizes[0], optimum=sizes[1], maximum=sizes[2]))
    expected = open_session(artifact / "server").run_batch(clips)
    np.testing.assert_allclose(session.run_batch(clips), expected, atol=1e-5)
    for one, first in zip(clips, (0, 2, 4), strict=True):
        np.testing.assert_allclose(session.run(one), expected[first : first + 2], atol=1e-5)
