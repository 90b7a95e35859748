"""Over budget, or not what was asked."""

from __future__ import annotations

import dataclasses
import platform
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client, EncryptedClip, PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, EngineRecord, list_engines, read_manifest
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.errors import (
    BuildError,
    MissingDependencyError,
    ParityError,
    SessionError,
)
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime import ProbeReport
from lcve_deploy.runtime.backends.openvino import OpenVinoSession
from lcve_deploy.runtime.session import Provider
from lcve_deploy.verbs.build import BuildOptions, build
from lcve_deploy.verbs.fastest import EngineChoice, build_fastest
from tests.conftest import run_error, run_ok
from tests.engines.helpers import INT8, OPENVINO, TINY, cpu_has, logits_of


def test_an_engine_over_its_budget_is_not_kept(server: Path, encrypted: EncryptedClip) -> None:
    with pytest.raises(ParityError, match="fails the probe"):
        build(server, dataclasses.replace(INT8, budget=1e-7), clips=encrypted)
    assert not (server / "engines").exists()


def test_a_wrong_answer_to_an_encrypted_clip_refuses_the_engine(
    server: Path, encrypted: EncryptedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe alone is noise; given clips are compared as well."""
    from lcve_deploy.verbs import build as verb

    class Wrong:
        def run_with(self, values: np.ndarray, tensors: object) -> np.ndarray:
            return np.full((len(values), 5), 3.0, np.float32)

    monkeypatch.setattr(verb, "OnnxRuntimeSession", lambda *_: Wrong())
    with pytest.raises(ParityError, match="logits differ"):
        build(server, BuildOptions(), clips=encrypted)
    assert not (server / "engines").exists()


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_budget_is_finite_and_above_zero(server: Path, budget: float) -> None:
    with pytest.raises(ValueError, match="expected a finite budget above zero"):
        BuildOptions(budget=budget)
    run_error("build", server, "--runtime", "onnxruntime", "--budget", budget)


def test_provider_options_cannot_pass_for_ours(server: Path) -> None:
    for option in ("budget=1e9", "provider=cuda"):
        error = run_error("build", server, "--runtime", "onnxruntime", "--provider-option", option)
        assert f"{option.partition('=')[0]}: not an allowed option of the provider cpu" in error


def test_logits_that_are_no_numbers_are_within_no_tolerance() -> None:
    assert not ProbeReport(clips=1, max_difference=float("inf"), tolerance=float("inf")).ok
    assert not ProbeReport(clips=1, max_difference=float("nan"), tolerance=1.0).ok


def test_a_precision_that_onnx_runtime_would_emulate_is_refused(server: Path) -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("other CPUs have such products")
    for precision in (Precision.FP16, Precision.BF16):
        with pytest.raises(BuildError, match=f"does not compute {precision} products"):
            build(server, BuildOptions(precision=precision))


def test_a_provider_that_leaves_the_work_to_the_cpu_is_an_error(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Azure provider is in ONNX Runtime's CPU package, and takes no node of such a graph."""
    import onnxruntime

    from lcve_deploy.runtime.backends import onnxruntime as room

    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no provider that takes no node")
    monkeypatch.setitem(room._NAMES, Provider.CUDA, "AzureExecutionProvider")
    with pytest.raises(SessionError, match=r"left .* of its matrix products to others"):
        open_session(server, SessionOptions(provider=Provider.CUDA))


@pytest.fixture
def threads_seen(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Threads that ONNX Runtime and OpenVINO are told, for each session; None where they are told nothing."""
    import onnxruntime
    import openvino

    seen: list[int | None] = []
    opened, compiled = onnxruntime.InferenceSession, openvino.Core.compile_model

    def session(path: Path, options: Any, **more: Any) -> Any:
        seen.append(options.intra_op_num_threads or None)
        return opened(path, options, **more)

    def model(core: Any, path: Path, device: str, wanted: dict[str, str]) -> Any:
        result = compiled(core, path, device, wanted)
        told = result.get_property("INFERENCE_NUM_THREADS")
        seen.append(int(told) if "INFERENCE_NUM_THREADS" in wanted else None)
        return result

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(openvino.Core, "compile_model", model)
    return seen


@pytest.mark.parametrize("engine", [None, "onnxruntime-fp32", "openvino-fp32", "fastest"])
def test_threads_reach_the_runtime(server: Path, threads_seen: list[int | None], engine: str | None) -> None:
    if engine is not None:
        build(server, OPENVINO if engine.startswith("openvino") else BuildOptions())
    threads_seen.clear()
    open_session(server, SessionOptions(engine=engine, threads=1))
    open_session(server, SessionOptions(engine=engine))
    assert threads_seen == [1, None]


def test_threads_of_the_command_line_reach_the_runtime(
    artifact: Path, key_file: Path, clip: np.ndarray, threads_seen: list[int | None], tmp_path: Path
) -> None:
    np.save(tmp_path / "clip.npy", clip)
    run_ok("run", artifact, tmp_path / "clip.npy", "--key", key_file, "--threads", 1)
    assert threads_seen == [1]


@pytest.mark.parametrize("kind", [EngineKind.ONNXRUNTIME, EngineKind.OPENVINO])
def test_threads_that_share_a_session_get_their_own_answers(
    artifact: Path, key: SecurityKey, clip: np.ndarray, kind: EngineKind
) -> None:
    name = build(artifact / "server", BuildOptions(kind=kind)).name
    session, client = (
        open_session(artifact / "server", SessionOptions(engine=name)),
        Client.open(artifact / "client", key),
    )
    batches = [client.encrypt(PlainClip(values=np.stack([np.roll(clip, shift)] * 64))) for shift in range(3)]
    expected = [session.run(batch) for batch in batches]
    with ThreadPoolExecutor(max_workers=3) as threads:
        received = list(threads.map(session.run, batches * 10))
    for answer, right in zip(received, expected * 10, strict=True):
        np.testing.assert_allclose(answer, right, atol=1e-5)


def test_an_interrupted_choice_leaves_nothing(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lcve_deploy.verbs import fastest

    real = build

    def interrupted(folder: Path, options: BuildOptions, **more: Any) -> EngineRecord:
        if options.kind is EngineKind.OPENVINO:
            raise KeyboardInterrupt
        build(folder, BuildOptions(name="another-run"))  # what another process builds meanwhile stays
        return real(folder, options, **more)

    monkeypatch.setattr(fastest, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_fastest(server, EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)))
    assert list_engines(server) == ("another-run",)


def test_int8_without_clips_says_what_to_pass(server: Path) -> None:
    assert "calibrated on encrypted clips" in run_error(
        "build", server, "--runtime", "onnxruntime", "--precision", "int8"
    )
    assert not (server / "engines").exists()


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP16])
def test_a_type_that_the_cpu_does_not_have_is_an_error_and_no_slow_engine(
    artifact: Path, key: SecurityKey, clip: np.ndarray, precision: Precision
) -> None:
    options = dataclasses.replace(OPENVINO, precision=precision)
    if cpu_has(precision):
        record = build(artifact / "server", options)
        error = np.abs(logits_of(artifact, key, clip, record.name) - TINY.logits).max()
        assert 1e-5 < error <= BUDGETS[precision] * max(1.0, np.abs(TINY.logits).max())
    else:
        with pytest.raises(SessionError, match=f"expected OpenVINO to compute with {precision}"):
            build(artifact / "server", options)
        assert not (artifact / "server/engines").exists()


def test_a_type_that_openvino_would_emulate_is_refused(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does with bf16 on CPUs that have AVX-512 without it."""
    import openvino

    monkeypatch.setattr(openvino.Core, "get_property", lambda *asked: ["FP32", "INT8"])
    with pytest.raises(SessionError, match=r"compute with bf16, .* (OpenVINO would emulate it|it uses f32)$"):
        build(server, dataclasses.replace(OPENVINO, precision=Precision.BF16))


def test_a_type_that_openvino_takes_by_itself_is_refused(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hint that is lost would do: float32 becomes bf16 where the CPU has it, and nothing else changes."""
    import openvino

    real = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda core, graph, device, told: real(core, graph, device))
    if cpu_has(Precision.BF16):
        with pytest.raises(SessionError, match=r"expected OpenVINO to compute with fp32, .* it uses bf16"):
            build(server, OPENVINO)
    else:
        assert build(server, OPENVINO).proof


def test_openvino_opens_no_graph_of_another_precision(server: Path, encrypted: EncryptedClip) -> None:
    record = build(server, dataclasses.replace(OPENVINO, precision=Precision.INT8), clips=encrypted)
    graph, spec = engine_folder(server, record.name) / "model.onnx", read_manifest(server).model
    with pytest.raises(SessionError, match=r"expected OpenVINO to compute with fp32, .* it uses f32, i8"):
        OpenVinoSession(graph, spec, dataclasses.replace(record, precision=Precision.FP32))
    with pytest.raises(SessionError, match=r"expected OpenVINO to compute with int8, .* it uses f32$"):
        OpenVinoSession(server / "model.onnx", spec, record)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "tensorrt-rtx"])
def test_a_provider_that_is_not_there_is_an_error_and_no_fallback(
    server: Path, exported: Path, tmp_path: Path, provider: str
) -> None:
    with pytest.raises(SessionError, match="ExecutionProvider"):
        open_session(server, SessionOptions(provider=provider))  # type: ignore[arg-type]  # text is accepted too
    with pytest.raises(SessionError, match="ExecutionProvider"):
        build(server, BuildOptions(provider=Provider(provider)))
    assert not (server / "engines").exists()


def test_a_provider_that_does_not_start_is_an_error(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What onnxruntime-gpu does without a GPU: it lists the provider, and takes the CPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda path, options, providers: real(path, options, ["CPUExecutionProvider"])
    )
    with pytest.raises(SessionError, match=r"expected CUDAExecutionProvider, .* fell back to CPUExecutionProvider"):
        open_session(server, SessionOptions(provider=Provider.CUDA))


@pytest.mark.parametrize(
    "work",
    [
        lambda server: open_session(server, SessionOptions(provider=Provider.CPU, provider_options={"use_arena": "0"})),
        lambda server: build(server, BuildOptions(budget=0.01, provider_options={"use_arena": "0"})),
    ],
    ids=["graph", "engine"],
)
def test_options_of_the_provider_and_no_others_reach_it(
    server: Path, work: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    seen = []
    real = onnxruntime.InferenceSession

    def session(path: Path, options: object, providers: list[object]) -> object:
        seen.append(providers)
        return real(path, options, ["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    work(server)
    assert seen == [[("CPUExecutionProvider", {"use_arena": "0"})]]


@pytest.mark.parametrize("module", ["onnxruntime", "openvino", "tensorrt"])
def test_a_missing_library_names_its_extra(server: Path, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError) as caught:
        build(server, BuildOptions(kind=EngineKind(module)))
    assert "lcve-deploy[" in caught.value.hint
    assert not (server / "engines").exists()
