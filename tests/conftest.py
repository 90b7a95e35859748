"""Fixtures that many tests share: a key, checkpoints with known answers, one exported artifact."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click.testing
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from lcve_deploy import CheckpointOptions, ClipGeometry, Normalisation, SecurityKey
from lcve_deploy.cli import lcve
from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
from lcve_deploy.libraries.cuda import find_gpu
from lcve_deploy.model.transformer import IMAGENET
from lcve_deploy.verbs.enroll import enroll
from tests.support.artifacts import add_key
from tests.support.tls import Authority, make_authority

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # some tests load ONNX Runtime themselves
# One thread a process, read when torch is loaded. The models are tiny, and where workers of pytest-xdist share the
# cores, threads that spin while they wait for one another take most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test ends with a loss of power, so none waits for the disk, which can take as long as the rest of an export. Tests
# of syncing look at the calls.
mock.patch("os.fsync", os.fstat).start()

LONGEST = (
    *(
        "test_pages",
        "watch",
        "web",
        "test_killed",
        "test_batch",
        "tensorrt",
        "test_benchmarks",
        "remote",
        "test_install",
    ),
    *(
        "test_precisions",
        "test_serving_bounds",
        "engines",
        "test_attacks",
        "test_serving_retry",
        "test_fleet",
        "test_audit",
    ),
    *("test_serving_load", "test_serving_keys", "test_export", "test_secrets", "test_site", "test_paper_experiments"),
    *("javascript", "test_paper_page", "test_conformance", "test_triton", "sealing", "fuzz", "test_serving_faults"),
)
"""Files and folders of the suite by how long they take."""

ORACLE = Path(__file__).parent / "data/oracle"
GEOMETRY = ClipGeometry.parse("8x32x32x3/2x8x8")
SECRET = bytes(range(32))
SALT = bytes(range(16, 32))

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test asserts time
settings.load_profile("suite")

os.environ.pop("LCVE_SIGNED_BY", None)  # a pin of this machine is not meant for the artifacts of tests
_STATE = tempfile.TemporaryDirectory(prefix="lcve-tests-")  # nor are its engines those of this machine
os.environ["LCVE_ENGINE_SECRET"] = f"{_STATE.name}/engine-secret"


@dataclass(frozen=True)
class Oracle:
    """A checkpoint and the logits that its original implementation gives for the oracle clip."""

    name: str
    path: Path
    logits: np.ndarray
    flags: tuple[str, ...]
    options: CheckpointOptions


def _official(name: str, logits: list[float]) -> Oracle:
    first = name == "v1_first_token"  # which detectors look like, so that it must be said
    flags = ("--num-heads", "3", "--frames", "8", "--size", "32", *(("--readout", "first-token") if first else ()))
    options = CheckpointOptions(heads=3, frames=8, size=32, readout=ReadoutChoice.FIRST_TOKEN if first else None)
    return Oracle(name, ORACLE / f"{name}.pth", np.array(logits), flags, options)


def _hugging_face(name: str, logits: list[float]) -> Oracle:
    said = name == "hf_vivit"  # its folder has no processor file, and only VideoMAE has a default
    mean, std = (",".join(map(str, values)) for values in (IMAGENET.mean, IMAGENET.std))
    flags = ("--mean", mean, "--std", std) if said else ()
    normalisation: Normalisation | None = IMAGENET if said else None
    return Oracle(name, ORACLE / name, np.array(logits), flags, CheckpointOptions(normalisation=normalisation))


def _oracles() -> list[Oracle]:
    official = json.loads((ORACLE / "official_logits.json").read_text())
    hugging_face = json.loads((ORACLE / "hf_logits.json").read_text())
    return [_official(name, entry["logits"]) for name, entry in official.items()] + [
        _hugging_face(name, entry["logits"]) for name, entry in hugging_face.items() if name != "hf_timesformer"
    ]


ORACLES = {oracle.name: oracle for oracle in _oracles()}


def missing_for_gpu_tests(library: str = "tensorrt") -> str:
    """What tests marked ``gpu`` need and this machine lacks; empty where nothing is.

    Args:
        library: of the marker: ``tensorrt`` for any of the two, ``onnxruntime`` for its CUDA provider, or ``cupy``.
    """
    if find_gpu() is None:
        return "no NVIDIA GPU with its driver was found"
    if library == "onnxruntime":
        import onnxruntime

        there = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
        return "" if there else "this ONNX Runtime has no CUDA provider"
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed"
    if library == "cupy":
        return ""
    found = any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx"))
    return "" if found else "neither TensorRT nor TensorRT-RTX is installed"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where workers share the tests, those of a file or folder stay together: each would make fixtures again.

    The longest come first, so that no worker waits for one at the end.
    """
    items.sort(key=lambda item: LONGEST.index(_group(item)) if _group(item) in LONGEST else len(LONGEST))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(_group(item)))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Turn garbage collection off while tests are collected, and exclude from it what exists then: it all stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def _group(item: pytest.Item) -> str:
    """A file of this folder, or a folder in it."""
    return Path(item.path.relative_to(Path(__file__).parent).parts[0]).stem


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip GPU tests where they cannot run; fail them where ``LCVE_REQUIRE_GPU=1`` says that they must."""
    marker = item.get_closest_marker("gpu")
    if marker and (missing := missing_for_gpu_tests(**getattr(marker, "kwargs", {}))):
        if os.environ.get("LCVE_REQUIRE_GPU") == "1":
            pytest.fail(f"LCVE_REQUIRE_GPU=1, but {missing}", pytrace=False)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def key() -> SecurityKey:
    return SecurityKey(SECRET)


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    """The oracle clip, ``[T, H, W, C]``."""
    return np.load(ORACLE / "clip_8x32x32.npy")


@pytest.fixture(scope="session")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "key.bin"
    SecurityKey(SECRET).write(path)
    return path


Run = Callable[..., click.testing.Result]


def heed_interrupts() -> None:
    """For a new process: a test run in the background has SIGINT ignored, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def run_lcve(*arguments: object) -> click.testing.Result:
    """Run a command line in this process; fails the test on anything but a result or a clear exit."""
    result = click.testing.CliRunner().invoke(lcve, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def run_ok(*arguments: object) -> str:
    """Run a command that must succeed; returns what it prints on standard output."""
    result = run_lcve(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def run_error(*arguments: object) -> str:
    """Run a command that must end with one clear error; returns that."""
    result = run_lcve(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert "Traceback" not in result.output
    errors = [line for line in result.stderr.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == 1, result.output
    return errors[0]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Path:
    """An artifact of ``v1_model_args`` with a probe of two clips; tests that change it take ``artifact``."""
    oracle = ORACLES["v1_model_args"]
    folder = tmp_path_factory.mktemp("artifact") / "service"
    run_ok("export", "--key", key_file, "--ckpt", oracle.path, "-o", folder, *oracle.flags, "--stride", 1, "--thorough")
    return folder


@pytest.fixture(scope="session")
def thin(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Path:
    """An artifact of ``v1_model_args`` for packed clips."""
    oracle = ORACLES["v1_model_args"]
    folder = tmp_path_factory.mktemp("thin") / "service"
    flags = (*oracle.flags, "--stride", 1, "--wire", "dct")
    run_ok("export", "--key", key_file, "--ckpt", oracle.path, "-o", folder, *flags)
    return folder


@pytest.fixture(scope="session")
def fleet(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model folder of ``exported`` with four keys: main, a, b and c."""
    root = tmp_path_factory.mktemp("fleet")
    server = Path(shutil.copytree(exported, root / "service")) / "server"
    for name in ("a", "b", "c"):
        enroll(root / "service", name, root / name, key=SecurityKey(SECRET))
        add_key(server, root / name / "server", name)
    return server


@pytest.fixture
def artifact(exported: Path, tmp_path: Path) -> Path:
    """A copy of the artifact, to break."""
    return Path(shutil.copytree(exported, tmp_path / "service"))
