"""Fixtures of the tests in this folder."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import pytest

from lcve_deploy.artifact import read_manifest
from lcve_deploy.errors import MissingDependencyError
from lcve_deploy.libraries.tensorrt import (
    TENSORRT,
    TENSORRT_RTX,
    TensorRT,
    find_tensorrt,
)
from tests.support import fake_gpu
from tests.tensorrt.helpers import (
    GPU,
    TINY,
    Graph,
    Machine,
    oracle_graph,
)


@pytest.fixture(scope="session")
def rtx() -> TensorRT:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("TensorRT-RTX is built for Linux on x86-64")
    return find_tensorrt(TENSORRT_RTX)


@pytest.fixture
def tiny(tmp_path: Path) -> Graph:
    return oracle_graph(TINY, tmp_path)


@pytest.fixture
def machine(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    module = fake_gpu.fake_tensorrt()
    for name, fake in {"tensorrt": module, **fake_gpu.fake_cupy()}.items():
        monkeypatch.setitem(sys.modules, name, fake)
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: GPU)
    plan = tmp_path / "server/engines/tensorrt-fp32/engine.plan"
    plan.parent.mkdir(parents=True)
    plan.write_bytes(fake_gpu.plan_of(exported / "server/model.onnx"))
    return Machine(plan, exported / "server", read_manifest(exported / "server"), module)


@pytest.fixture
def real(request: pytest.FixtureRequest) -> TensorRT:
    """Whichever library is installed on the machine with the GPU."""
    try:
        return find_tensorrt(TENSORRT)
    except MissingDependencyError:
        return find_tensorrt(TENSORRT_RTX)
