"""Kernels of TensorRT-RTX: compiled at once, kept with the plan, in CUDA graphs only if asked for; with stand-ins."""

from __future__ import annotations

import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, Profile, read_engine
from lcve_deploy.artifact.names import RUNTIME_CACHE
from lcve_deploy.errors import ArtifactError, BuildError, ForeignEngineError
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.exporters.tensorrt import plan as plan_module
from lcve_deploy.libraries.tensorrt import TensorRT
from lcve_deploy.runtime.backends.tensorrt import TensorRTSession
from lcve_deploy.verbs.build import BuildOptions, build
from tests.support import fake_gpu
from tests.tensorrt.helpers import GPU, encrypted

NAME = "tensorrt-rtx-fp32"
SIZES = PlanOptions(profile=Profile(minimum=1, optimum=2, maximum=3))


@pytest.fixture
def rtx_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    module = fake_gpu.fake_tensorrt_rtx()
    for name, fake in {"tensorrt_rtx": module, **fake_gpu.fake_cupy()}.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: GPU)
    monkeypatch.setattr(plan_module, "find_gpu", lambda: GPU)
    return module


@pytest.fixture
def server(rtx_module: types.ModuleType, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCVE_ENGINE_SECRET", str(tmp_path / "engine-secret"))
    folder = tmp_path / "server"
    shutil.copytree(exported / "server", folder)
    return folder


def built(server: Path, plan: PlanOptions = SIZES) -> TensorRTSession:
    build(server, BuildOptions(kind=EngineKind.TENSORRT_RTX, plan=plan))
    return opened(server)


def opened(server: Path) -> TensorRTSession:
    session = open_session(server, SessionOptions(engine=NAME))
    assert isinstance(session, TensorRTSession)
    return session


def test_kernels_are_compiled_at_once_and_without_cuda_graphs(server: Path) -> None:
    config = built(server)._config
    assert config.dynamic_shapes_kernel_specialization_strategy.name == "EAGER"
    assert config.cuda_graph_strategy is None


def test_kernels_of_the_probe_are_kept_with_the_engine_and_used_when_it_is_opened(
    server: Path, clip: np.ndarray
) -> None:
    session = built(server)
    record = read_engine(server, NAME)
    assert RUNTIME_CACHE in record.files
    content = (server / "engines" / NAME / RUNTIME_CACHE).read_bytes()
    assert content.startswith(b"kernels ")
    session.run(encrypted(server, clip, 1))
    assert session._context.compiled == []
    session.run(encrypted(server, clip, 3))
    assert session._context.compiled == [3]
    assert (server / "engines" / NAME / RUNTIME_CACHE).read_bytes() == content


def test_kernels_that_were_changed_are_refused(server: Path) -> None:
    built(server)
    (server / "engines" / NAME / RUNTIME_CACHE).write_bytes(b"kernels of somebody else")
    with pytest.raises(ArtifactError, match=RUNTIME_CACHE):
        opened(server)


def test_kernels_cannot_be_added_to_an_engine_that_has_none(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_gpu.RuntimeCache, "serialize", lambda cache: None)
    built(server)
    assert RUNTIME_CACHE not in read_engine(server, NAME).files
    (server / "engines" / NAME / RUNTIME_CACHE).write_bytes(b"kernels ")
    with pytest.raises((ArtifactError, ForeignEngineError)):
        opened(server)


def test_kernels_of_another_gpu_are_compiled_again(
    server: Path, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(server)
    monkeypatch.setattr(fake_gpu.RuntimeCache, "deserialize", lambda cache, content: False)
    session = opened(server)
    clips = encrypted(server, clip, 1)
    np.testing.assert_allclose(session.run(clips), open_session(server).run(clips), atol=1e-6)
    assert session._context.compiled == [1]


def test_cuda_graphs_have_a_switch_and_addresses_that_stay(server: Path, clip: np.ndarray) -> None:
    session = built(server, PlanOptions(profile=SIZES.profile, cuda_graphs=True))
    assert read_engine(server, NAME).options["cuda_graphs"] == "true"
    assert session._config.cuda_graph_strategy.name == "WHOLE_GRAPH_CAPTURE"
    clips = encrypted(server, clip, 3)
    on_device = fake_gpu.Array(clips.values)
    for values in (clips.values, np.concatenate([clips.values] * 3), on_device):
        logits = session.run(type(clips)(values=values, binding=clips.binding))
        np.testing.assert_allclose(logits[:3], open_session(server).run(clips), atol=1e-6)
    assert len({address for _, address in session._context.enqueued}) == 1


def test_tensorrt_has_no_such_switch(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rtx_module: types.ModuleType
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", fake_gpu.fake_tensorrt())
    shutil.copytree(exported / "server", tmp_path / "server")
    with pytest.raises(BuildError, match="cuda_graphs is unknown to it"):
        build(
            tmp_path / "server",
            BuildOptions(kind=EngineKind.TENSORRT, plan=PlanOptions(cuda_graphs=True)),
        )


def test_the_real_library_has_what_the_session_asks_of_it(rtx: TensorRT) -> None:
    module = rtx.module
    assert rtx.member("DynamicShapesKernelSpecializationStrategy", "EAGER") is not None
    assert rtx.member("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE") is not None
    config = {"dynamic_shapes_kernel_specialization_strategy", "cuda_graph_strategy", "create_runtime_cache"}
    assert config | {"set_runtime_cache"} <= set(dir(module.IRuntimeConfig))
    assert {"serialize", "deserialize"} <= set(dir(module.IRuntimeCache))
    assert "create_runtime_config" in dir(module.ICudaEngine)
    assert "runtime_config" in module.ICudaEngine.create_execution_context.__doc__
