"""Engines of a server folder: built, proven, opened, refused."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client, EncryptedClip, PlainClip, SecurityKey, SessionOptions, open_session, refit
from lcve_deploy.artifact import EngineKind, EngineRecord, Profile, list_engines, read_engine, read_manifest
from lcve_deploy.artifact.engines import engine_folder, write_engine
from lcve_deploy.errors import (
    ArtifactError,
    BuildError,
    ExistsError,
    MismatchError,
    MissingDependencyError,
    ParityError,
    SessionError,
    WriteError,
)
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime import ProbeReport, verify_engine
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.backends.openvino import OpenVinoSession
from lcve_deploy.runtime.probe import prove_engine
from lcve_deploy.runtime.session import Provider, run_within
from lcve_deploy.verbs.build import BuildOptions, build
from lcve_deploy.verbs.fastest import EngineChoice, build_fastest

from .conftest import ORACLES, run_error, run_lcve, run_ok

TINY = ORACLES["v1_model_args"]
INT8 = BuildOptions(precision=Precision.INT8)
OPENVINO = BuildOptions(kind=EngineKind.OPENVINO)


@pytest.fixture
def server(artifact: Path) -> Path:
    return artifact / "server"


@pytest.fixture
def encrypted(exported: Path, key: SecurityKey, clip: np.ndarray) -> EncryptedClip:
    client = Client.open(exported / "client", key)
    return client.encrypt(PlainClip(values=np.stack([clip, clip[::-1], 255 - clip])))


def logits_of(artifact: Path, key: SecurityKey, clip: np.ndarray, engine: str) -> np.ndarray:
    client = Client.open(artifact / "client", key)
    session = open_session(artifact / "server", SessionOptions(engine=engine))
    return client.plain_order(session.run(client.encrypt(PlainClip(values=clip[None]))))[0]


# Built and proven

ENGINES = [
    (BuildOptions(), 1e-5),
    (INT8, 0.1),
    (OPENVINO, 1e-5),
    (dataclasses.replace(OPENVINO, precision=Precision.INT8), 0.1),
]


@pytest.mark.parametrize(("options", "tolerance"), ENGINES, ids=[options.engine_name for options, _ in ENGINES])
def test_an_engine_answers_encrypted_clips_with_the_original_logits(
    artifact: Path,
    key: SecurityKey,
    clip: np.ndarray,
    encrypted: EncryptedClip,
    options: BuildOptions,
    tolerance: float,
) -> None:
    record = build(artifact / "server", options, clips=encrypted)
    assert record.proof is not None
    assert record.proof.max_difference <= record.proof.budget
    assert record.agreement is not None
    assert record.agreement.clips == 3
    assert read_engine(artifact / "server", record.name) == record
    received = logits_of(artifact, key, clip, record.name)
    np.testing.assert_allclose(received, TINY.logits, atol=tolerance)
    if record.precision is not Precision.FP32:
        assert not np.allclose(received, TINY.logits, atol=1e-6)


def test_the_graph_of_an_engine_keeps_every_keyed_bit(server: Path, encrypted: EncryptedClip) -> None:
    record = build(server, INT8, clips=encrypted)
    folder = engine_folder(server, record.name)
    assert set(record.files) == {"model.onnx", "keyed.safetensors"}
    assert (folder / "keyed.safetensors").read_bytes() == (server / "keyed.safetensors").read_bytes()


def test_verify_proves_an_engine_on_another_machine(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = build(server, BuildOptions()).name
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.cpu_name", lambda: "another CPU")
    with pytest.raises(SessionError, match=r"answered the probe on .*, not here, on .*another CPU"):
        open_session(server, SessionOptions(engine=name))
    run_ok("verify", server, "--engine", name)
    assert open_session(server, SessionOptions(engine=name)).device.endswith("another CPU")


def test_an_engine_that_is_unproven_is_not_offered(server: Path) -> None:
    record = build(server, BuildOptions())
    write_engine(engine_folder(server, record.name), dataclasses.replace(record, proof=None))
    with pytest.raises(SessionError, match="is unproven"):
        open_session(server, SessionOptions(engine=record.name))
    with pytest.raises(SessionError, match=r"no engine of .* has answered the probe on this machine yet"):
        open_session(server, SessionOptions(engine="fastest"))
    assert f"engine {record.name}: ok" in run_ok("verify", server)
    assert open_session(server, SessionOptions(engine="fastest")).model == read_manifest(server).model


def test_the_owner_compares_an_engine_with_the_checkpoint(
    artifact: Path, key_file: Path, encrypted: EncryptedClip
) -> None:
    record = build(artifact / "server", INT8, clips=encrypted)
    report = json.loads(
        run_ok(
            *("verify", artifact, "--key", key_file, "--ckpt", TINY.path, "--num-heads", 3),
            *("--engine", record.name, "--json"),
        )
    )
    assert report["ok"]
    assert 1e-6 < report["max_difference"] <= report["tolerance"]
    assert min(report["controls"].values()) > 3 * report["tolerance"]


# Over budget, or not what was asked


def test_an_engine_over_its_budget_is_not_kept(server: Path, encrypted: EncryptedClip) -> None:
    with pytest.raises(ParityError, match="answers the probe wrongly"):
        build(server, dataclasses.replace(INT8, budget=1e-7), clips=encrypted)
    assert not (server / "engines").exists()


def test_a_wrong_answer_to_an_encrypted_clip_refuses_the_engine(
    server: Path, encrypted: EncryptedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe alone is noise; given clips are compared as well."""
    from lcve_deploy.verbs import build as verb

    class Wrong:
        def run(self, clip: EncryptedClip) -> np.ndarray:
            return np.full((len(clip.values), 5), 3.0, np.float32)

    monkeypatch.setattr(verb, "OnnxRuntimeSession", lambda *_: Wrong())
    with pytest.raises(ParityError, match="logits differ"):
        build(server, BuildOptions(), clips=encrypted)
    assert not (server / "engines").exists()


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), 0.0, -1.0])
def test_a_budget_is_finite_and_above_zero(server: Path, budget: float) -> None:
    with pytest.raises(ValueError, match="expected a finite budget above zero"):
        BuildOptions(budget=budget)
    run_error("build", server, "--engine", "onnxruntime", "--budget", budget)


def test_provider_options_cannot_pass_for_ours(server: Path) -> None:
    for option in ("budget=1e9", "provider=cuda"):
        error = run_error("build", server, "--engine", "onnxruntime", "--provider-option", option)
        assert "has no option" in error


def test_logits_that_are_no_numbers_are_within_no_tolerance() -> None:
    assert not ProbeReport(clips=1, max_difference=float("inf"), tolerance=float("inf")).ok
    assert not ProbeReport(clips=1, max_difference=float("nan"), tolerance=1.0).ok


def test_a_precision_that_onnx_runtime_would_emulate_is_refused(server: Path) -> None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("other CPUs have such products")
    for precision in (Precision.FP16, Precision.BF16):
        with pytest.raises(BuildError, match=f"has no {precision} products"):
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
        "build", server, "--engine", "onnxruntime", "--precision", "int8"
    )
    assert not (server / "engines").exists()


def cpu_has(precision: Precision) -> bool:
    import openvino

    return precision.upper() in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


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
    with pytest.raises(SessionError, match=r"compute with bf16, .* (OpenVINO would emulate it|it takes f32)$"):
        build(server, dataclasses.replace(OPENVINO, precision=Precision.BF16))


def test_a_type_that_openvino_takes_by_itself_is_refused(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hint that is lost would do: float32 becomes bf16 where the CPU has it, and nothing else changes."""
    import openvino

    real = openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda core, graph, device, told: real(core, graph, device))
    if cpu_has(Precision.BF16):
        with pytest.raises(SessionError, match=r"expected OpenVINO to compute with fp32, .* it takes bf16"):
            build(server, OPENVINO)
    else:
        assert build(server, OPENVINO).proof


def test_openvino_opens_no_graph_of_another_precision(server: Path, encrypted: EncryptedClip) -> None:
    record = build(server, dataclasses.replace(OPENVINO, precision=Precision.INT8), clips=encrypted)
    graph, spec = engine_folder(server, record.name) / "model.onnx", read_manifest(server).model
    with pytest.raises(SessionError, match=r"expected OpenVINO to compute with fp32, .* it takes f32, i8"):
        OpenVinoSession(graph, spec, dataclasses.replace(record, precision=Precision.FP32))
    with pytest.raises(SessionError, match=r"expected OpenVINO to compute with int8, .* it takes f32$"):
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
    with pytest.raises(SessionError, match=r"expected CUDAExecutionProvider, .* took CPUExecutionProvider"):
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


# Damaged, foreign, in the way


def test_an_engine_that_is_there_is_never_overwritten(server: Path) -> None:
    record = build(server, BuildOptions())
    with pytest.raises(ExistsError):
        build(server, BuildOptions())
    assert read_engine(server, record.name) == record


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_budget(path: Path, budget: str) -> None:
    content = json.loads(path.read_text())
    content["options"]["budget"] = budget
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda f: flip_a_byte(f / "model.onnx"), "another SHA-256"),
        (lambda f: (f / "model.onnx").write_bytes(b""), "has 0 bytes"),
        (lambda f: (f / "keyed.safetensors").unlink(), "is missing"),
        (lambda f: (f / "model.onnx.data").write_bytes(b"x"), "is not listed"),
        (lambda f: (f / "engine.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "engine.json").write_text("{}"), "name: missing"),
        (lambda f: with_budget(f / "engine.json", "abc"), "options.budget: expected a finite number"),
        (lambda f: with_budget(f / "engine.json", "inf"), "options.budget: expected a finite number"),
    ],
    ids=["flipped", "empty", "missing", "unlisted", "cut", "no fields", "no number", "no bound"],
)
def test_an_engine_that_does_not_hold_is_refused(
    server: Path, encrypted: EncryptedClip, breakage: Callable[[Path], None], message: str
) -> None:
    name = build(server, INT8, clips=encrypted).name
    breakage(engine_folder(server, name))
    with pytest.raises(ArtifactError, match=message):
        open_session(server, SessionOptions(engine=name))
    result = run_lcve("verify", server)
    assert result.exit_code == 1
    assert f"engine {name}: FAILED" in result.stdout


def test_an_engine_of_another_model_is_refused(server: Path, exported: Path, key_file: Path, tmp_path: Path) -> None:
    name = build(server, BuildOptions()).name
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "other", *TINY.flags)
    shutil.copytree(server / "engines", tmp_path / "other/server/engines")
    with pytest.raises(SessionError, match="was built from another model"):
        open_session(tmp_path / "other/server", SessionOptions(engine=name))


def test_an_engine_that_is_not_there(server: Path) -> None:
    build(server, BuildOptions())
    with pytest.raises(ArtifactError, match=r"has no engine 'fast'; it has: onnxruntime-fp32"):
        open_session(server, SessionOptions(engine="fast"))
    with pytest.raises(ArtifactError, match="an engine's name is"):
        open_session(server, SessionOptions(engine="../client"))


def test_a_clip_of_another_artifact_is_refused_before_anything_is_built(server: Path, encrypted: EncryptedClip) -> None:
    foreign = EncryptedClip(values=encrypted.values, binding=dataclasses.replace(encrypted.binding, salt="0" * 32))
    with pytest.raises(MismatchError):
        build(server, INT8, clips=foreign)
    assert not (server / "engines").exists()


# The fastest


def test_the_fastest_within_the_budget_is_kept(
    server: Path, encrypted: EncryptedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Times are made up, so that the choice can be known: what is quicker than float32 is over the budget."""
    times = {"onnxruntime-fp32": 9.0, "openvino-fp32": 5.0}
    from lcve_deploy.verbs import build as verb

    real = prove_engine

    def timed(session: Any, probe: Any, parity: Any, record: EngineRecord) -> object:
        report, proof = real(session, probe, parity, record)
        return report, dataclasses.replace(proof, milliseconds=times.get(record.name, 1.0))

    monkeypatch.setattr(verb, "prove_engine", timed)
    choice = EngineChoice(
        kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO),
        precisions=(Precision.FP32, Precision.BF16, Precision.INT8),
        options=BuildOptions(budget=1e-4),
    )
    selection = build_fastest(server, choice, clips=encrypted)
    assert selection.fastest.name == "openvino-fp32"
    assert list_engines(server) == ("openvino-fp32",)
    reasons = {candidate.name: candidate.reason for candidate in selection.candidates}
    for name in ("onnxruntime-int8", "openvino-int8"):
        assert "answers the probe wrongly" in reasons[name]
    assert reasons["onnxruntime-bf16"]
    has_bf16 = cpu_has(Precision.BF16)
    assert ("answers the probe wrongly" if has_bf16 else "to compute with bf16") in reasons["openvino-bf16"]


def test_the_fastest_of_what_was_there_stays(server: Path) -> None:
    build(server, BuildOptions(name="mine"))
    selection = build_fastest(server, EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)))
    assert set(list_engines(server)) == {"mine", selection.fastest.name}


def test_an_engine_from_before_is_held_to_the_budget(server: Path, encrypted: EncryptedClip) -> None:
    record = build(server, INT8, clips=encrypted)
    assert record.proof is not None
    write_engine(
        engine_folder(server, record.name),
        dataclasses.replace(record, proof=dataclasses.replace(record.proof, milliseconds=1e-3)),
    )
    choice = EngineChoice(
        kinds=(EngineKind.ONNXRUNTIME,),
        precisions=(Precision.FP32, Precision.INT8),
        options=BuildOptions(budget=record.proof.max_difference / 2),
    )
    selection = build_fastest(server, choice, clips=encrypted)
    assert selection.fastest.name == "onnxruntime-fp32"
    assert "over the budget" in {c.name: c.reason for c in selection.candidates}["onnxruntime-int8"]
    assert set(list_engines(server)) == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert read_engine(server, record.name).proof is not None  # it is within the budget that it was proven for


def test_proofs_of_other_machines_are_passed_over(server: Path) -> None:
    build(server, BuildOptions())
    other = build(server, OPENVINO)
    assert other.proof is not None
    foreign = dataclasses.replace(other.proof, device="openvino on another CPU", milliseconds=1e-3)
    write_engine(engine_folder(server, other.name), dataclasses.replace(other, proof=foreign))
    assert open_session(server, SessionOptions(engine="fastest")).device.startswith("onnxruntime")


@pytest.mark.parametrize("quickest", ["openvino-fp32", "onnxruntime-fp32"])
def test_the_fastest_of_several_proven_engines_is_the_one_that_opens(server: Path, quickest: str) -> None:
    """Times are made up; neither the order of names nor that of building decides."""
    for options in (BuildOptions(), OPENVINO, BuildOptions(name="a"), BuildOptions(name="z")):
        record = build(server, options)
        assert record.proof is not None
        proof = dataclasses.replace(record.proof, milliseconds=2.0 if record.name == quickest else 30.0)
        write_engine(engine_folder(server, record.name), dataclasses.replace(record, proof=proof))
    session = open_session(server, SessionOptions(engine="fastest"))
    assert session.engine is not None
    assert session.engine.name == quickest
    assert session.device.startswith(quickest.partition("-")[0])


def test_an_engine_that_answers_wrongly_loses_its_proof(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of its runtime or driver: what was right once is asked again, and is not offered any more."""
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession.run
    assert verify_engine(server, name).ok
    monkeypatch.setattr(OnnxRuntimeSession, "run", lambda self, clip: run(self, clip)[:, ::-1])
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.cpu_name", lambda: "after the update")
    result = run_lcve("verify", server, "--engine", name)
    assert (result.exit_code, result.stdout.startswith("probe: FAILED")) == (1, True)
    assert read_engine(server, name).proof is None
    for wanted in (name, "fastest"):
        with pytest.raises(SessionError, match=r"is unproven|no engine of"):
            open_session(server, SessionOptions(engine=wanted))


def test_an_engine_that_answers_wrongly_where_it_was_proven_loses_its_proof_too(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession.run
    monkeypatch.setattr(OnnxRuntimeSession, "run", lambda self, clip: run(self, clip) + 1)
    assert not verify_engine(server, name).ok
    assert read_engine(server, name).proof is None


def test_a_choice_of_the_fastest_takes_the_proof_of_an_engine_that_answers_wrongly(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession.run
    monkeypatch.setattr(OnnxRuntimeSession, "run", lambda self, clip: run(self, clip) * np.nan)
    selection = build_fastest(server, EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)))
    assert selection.fastest.kind is EngineKind.OPENVINO
    assert set(list_engines(server)) == {name, selection.fastest.name}
    assert read_engine(server, name).proof is None


def test_the_record_of_an_engine_is_replaced_in_one_step(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = build(server, BuildOptions())
    folder = engine_folder(server, record.name)
    before = (folder / "engine.json").read_bytes()
    os.link(folder / "engine.json", server.parent / "as it was")
    write_engine(folder, dataclasses.replace(record, proof=None))
    assert read_engine(server, record.name).proof is None
    assert (server.parent / "as it was").read_bytes() == before
    (folder / "engine.json").write_bytes(before)

    def full(path: Path, target: Path) -> None:
        assert path.parent == folder.parent  # every file within must be listed
        assert [entry.name for entry in folder.iterdir()] == ["engine.json"]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match="No space left"):
        write_engine(folder, dataclasses.replace(record, proof=None))
    assert (folder / "engine.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [record.name]


def test_a_proven_engine_is_verified_where_nothing_can_be_written(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lcve_deploy.runtime import probe

    name = build(server, BuildOptions()).name
    monkeypatch.delattr(probe, "write_engine")
    run_ok("verify", server, "--engine", name)


def test_engines_are_verified_where_the_graphs_own_runtime_is_not_installed(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(server, OPENVINO)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    report = json.loads(run_ok("verify", server, "--json"))
    assert report["ok"]
    assert "needs ONNX Runtime" in report["reason"]
    assert report["engines"]["openvino-fp32"]["ok"]


def test_where_nothing_can_be_built_every_reason_is_given(server: Path) -> None:
    choice = EngineChoice(options=BuildOptions(budget=1e-12), precisions=(Precision.INT8, Precision.FP32))
    with pytest.raises(BuildError, match=r"no engine could be built.*onnxruntime-int8: .*onnxruntime-fp32: "):
        build_fastest(server, choice)
    assert list_engines(server) == ()


@pytest.mark.parametrize(("clips", "batches"), [(1, [2]), (4, [4]), (5, [4, 2]), (11, [4, 4, 3])])
def test_any_number_of_clips_runs_within_a_profile(clips: int, batches: list[int]) -> None:
    seen = []

    def run(values: np.ndarray) -> np.ndarray:
        seen.append(len(values))
        return values[:, :1].astype(np.float32)

    values = np.arange(clips, dtype=np.uint8)[:, None]
    logits = run_within(values, Profile(minimum=2, optimum=2, maximum=4), run)
    assert seen == batches
    np.testing.assert_array_equal(logits[:, 0], np.arange(clips))


# The command line


def test_build_run_and_inspect(artifact: Path, server: Path, key_file: Path, clip: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", clip)
    run_ok(
        "encrypt", tmp_path / "clip.npy", "--key", key_file, "--client", artifact / "client", "-o", tmp_path / "c.lcve"
    )
    shown = run_ok(
        *("build", server, "--engine", "onnxruntime", "--precision", "int8", "--clips", tmp_path / "c.lcve"),
        *("--budget", 0.2),
    )
    assert "onnxruntime-int8: " in shown
    assert "(budget 2.00e-01), top-1 agreement 100% of 1" in shown
    run_ok("run", server, tmp_path / "c.lcve", "--engine", "onnxruntime-int8", "--logits-out", tmp_path / "a.npy")
    run_ok(
        "run", server, tmp_path / "c.lcve", "--engine", "fastest", "--threads", 1, "--logits-out", tmp_path / "b.npy"
    )
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), atol=1e-5)
    assert "ms a clip, max |Δlogit|" in run_ok("inspect", server)
    assert (
        "is for the graph itself"
        in run_lcve("run", server, tmp_path / "c.lcve", "--engine", "fastest", "--provider", "cuda").output
    )


def test_build_tries_several_engines(server: Path) -> None:
    report = json.loads(run_ok("build", server, "--precision", "auto", "--budget", 0.01, "--json"))
    assert report["engine"]["name"] in list_engines(server)
    names = {candidate["name"] for candidate in report["candidates"]}
    assert {"onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-bf16"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--engine", "openvino", "--provider", "cuda"), "no effect with --engine openvino: --provider"),
        (("--engine", "onnxruntime", "--batch", "1:2:4"), "no effect with --engine onnxruntime: --batch"),
        (("--provider", "cuda"), "no effect with --engine fastest: --provider"),
        (("--refit", "x", "--precision", "fp16"), "no effect with --refit: --precision"),
    ],
)
def test_options_without_effect_are_refused(server: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in run_error("build", server, *arguments)


def test_only_a_tensorrt_engine_is_refitted(server: Path) -> None:
    name = build(server, BuildOptions()).name
    message = f"only TensorRT engines can be refitted, and {name} is one of onnxruntime"
    with pytest.raises(BuildError, match=message):
        refit(server, name)
    assert message in run_error("build", server, "--refit", name)
    assert list_engines(server) == (name,)


def test_auto_needs_a_budget(server: Path) -> None:
    assert "needs --budget" in run_error("build", server, "--precision", "auto")
    assert "a name is for one engine" in run_error("build", server, "--name", "x")


def test_export_builds_an_engine_and_compares_it_with_the_checkpoint(key_file: Path, tmp_path: Path) -> None:
    report = json.loads(
        run_ok(
            *("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags),
            *("--engine", "onnxruntime", "--precision", "int8", "--json"),
        )
    )
    assert report["engines"]["engine"]["name"] == "onnxruntime-int8"
    assert list_engines(tmp_path / "out/server") == ("onnxruntime-int8",)
    assert 1e-5 < report["engine_parity"]["max_difference"] <= report["engine_parity"]["tolerance"]
    assert len(report["engine_parity"]["controls"]) == 4
    run_ok("verify", tmp_path / "out/server")


def test_an_export_whose_engine_is_over_budget_leaves_nothing(key_file: Path, tmp_path: Path) -> None:
    error = run_error(
        *("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags),
        *("--engine", "onnxruntime", "--precision", "int8", "--budget", 1e-9),
    )
    assert "answers the probe wrongly" in error
    assert list(tmp_path.iterdir()) == []


def test_files_that_changed_are_not_said_to_have_their_digests(artifact: Path) -> None:
    server = artifact / "server"
    run_ok("build", server, "--engine", "onnxruntime")
    assert "digests: ok" in run_ok("verify", server)
    with (server / "model.onnx").open("ab") as file:
        file.write(b"x")
    result = run_lcve("verify", server)
    assert result.exit_code == 1
    assert "digests: ok" not in result.output
    assert "model.onnx has" in result.output
