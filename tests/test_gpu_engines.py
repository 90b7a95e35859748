"""Engines for GPUs in every precision, from the build to the server: with stand-ins, and on a GPU if there is one.

The stand-ins compute fp16 and bf16 with values that are rounded as hardware rounds them.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, Profile, read_engine
from lcve_deploy.errors import SessionError
from lcve_deploy.exporters.tensorrt import PlanOptions
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime import verify_engine
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, build
from tests.support import fake_cuda_provider, fake_gpu
from tests.support.artifacts import random_clip
from tests.support.servers import ask_http, serving


@dataclass(frozen=True)
class Kind:
    """A kind of engine, and its stand-in."""

    kind: EngineKind
    install: Callable[[pytest.MonkeyPatch], object]
    provider: Provider = Provider.CPU

    @property
    def in_server(self) -> str:
        """Code that puts the stand-in into a server's process."""
        return f"import pytest\nfrom {self.install.__module__} import install\ninstall(pytest.MonkeyPatch())\n"

    def options(self, precision: Precision) -> BuildOptions:
        plan = PlanOptions(profile=Profile(minimum=1, optimum=2, maximum=4))
        return BuildOptions(kind=self.kind, precision=precision, provider=self.provider, plan=plan, name="x")


KINDS = {
    "tensorrt": Kind(EngineKind.TENSORRT, fake_gpu.install),
    "tensorrt-rtx": Kind(EngineKind.TENSORRT_RTX, fake_gpu.install),
    "onnxruntime-cuda": Kind(EngineKind.ONNXRUNTIME, fake_cuda_provider.install, Provider.CUDA),
}
NOT_HERE = {("onnxruntime-cuda", Precision.BF16)}
"""What no stand-in computes: ONNX Runtime has no bf16 products on a CPU."""


@dataclass(frozen=True)
class Case:
    """An engine to build, on hardware or on a stand-in."""

    what: Kind
    precision: Precision
    on_hardware: bool

    @property
    def before(self) -> str:
        return "" if self.on_hardware else self.what.in_server


def cases() -> list[Any]:
    """All of them, twice."""
    found = []
    for name, kind in KINDS.items():
        library = "onnxruntime" if kind.provider is Provider.CUDA else "tensorrt"
        for precision in Precision:
            marks = pytest.mark.gpu(library=library)
            found.append(pytest.param(Case(kind, precision, True), id=f"gpu-{name}-{precision}", marks=marks))
            if (name, precision) not in NOT_HERE:
                found.append(pytest.param(Case(kind, precision, False), id=f"standin-{name}-{precision}"))
    return found


@pytest.fixture(params=cases())
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    found: Case = request.param
    if not found.on_hardware:
        found.what.install(monkeypatch)
    elif found.what.kind is not EngineKind.ONNXRUNTIME:
        pytest.importorskip(str(found.what.kind).replace("-", "_"))
    return found


@pytest.fixture
def server(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LCVE_ENGINE_SECRET", str(tmp_path / "engine-secret"))
    shutil.copytree(exported / "server", tmp_path / "server")
    return tmp_path / "server"


def test_an_engine_is_built_proven_verified_shared_by_threads_and_served(server: Path, case: Case) -> None:
    clips = random_clip(server, 5)
    record = build(server, case.what.options(case.precision), clips=clips)
    assert record.proof is not None
    assert record.proof.max_difference <= record.proof.budget
    assert verify_engine(server, "x").ok
    assert read_engine(server, "x").proof == record.proof
    session, expected = open_session(server, SessionOptions(engine="x")), open_session(server).run(clips)
    budget = record.proof.budget
    answers: dict[int, np.ndarray] = {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: session.run(clips)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    for logits in answers.values():
        np.testing.assert_allclose(logits, expected, atol=budget)
    with serving(server, "--engine", "x", before=case.before) as running:
        status, logits = ask_http(running, random_clip(server, 3))
        assert status == 200, logits
        np.testing.assert_allclose(logits, expected[:3], atol=budget)


def test_too_little_memory_for_one_batch_leaves_a_session_that_answers(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = fake_cuda_provider.install(monkeypatch)
    session, clips = open_session(server, SessionOptions(provider=Provider.CUDA)), random_clip(server, 2)
    cuda.fails = RuntimeError("CUDA failure 2: out of memory; GPU=0")
    with pytest.raises(SessionError, match="out of memory"):
        session.run(clips)
    cuda.fails = None
    np.testing.assert_allclose(session.run(clips), open_session(server).run(clips), atol=1e-6)


@pytest.mark.gpu
def test_gpu_a_batch_that_no_card_has_memory_for_is_one_clear_error(server: Path) -> None:
    profile = Profile(minimum=1, optimum=1, maximum=2**24)
    options = BuildOptions(kind=EngineKind.TENSORRT, plan=PlanOptions(profile=profile), name="x")
    pytest.importorskip("tensorrt")
    with pytest.raises((SessionError, RuntimeError), match=r"memory|could not build"):
        build(server, options)
