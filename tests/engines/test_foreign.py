"""The attack: engines that someone added to a folder whose signed part is genuine. No runtime may read them."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import SecurityKey, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, EngineRecord, read_engine, record_files
from lcve_deploy.artifact.engines import engine_folder, write_engine
from lcve_deploy.errors import ArtifactError, ForeignEngineError, SessionError
from lcve_deploy.exporters.int8 import write_quantised
from lcve_deploy.libraries.cuda import Gpu
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime import verify_engine
from lcve_deploy.runtime.opening import EngineWarning
from lcve_deploy.serving.models.loading import load_model
from lcve_deploy.verbs.build import BuildOptions, build
from lcve_deploy.verbs.fastest import EngineChoice, build_fastest
from tests.conftest import ORACLE, run_error, run_lcve, run_ok
from tests.engines.helpers import INT8, OPENVINO
from tests.support import fake_gpu
from tests.support.engines import write_own_engine
from tests.test_export import export_tiny

PLUGIN = "trt_extra_plugin_lib_paths"
EVIL: dict[EngineKind, dict[str, str]] = {
    EngineKind.ONNXRUNTIME: {"provider": "tensorrt", PLUGIN: "/evil.so"},
    EngineKind.OPENVINO: {},
    EngineKind.TENSORRT: {"version_compatible": "true"},
    EngineKind.TENSORRT_RTX: {},
}
RUNTIMES = tuple(EVIL)
MARK = b"\x12\x07planted"
"""At the end of a planted graph: the name of its producer."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What native constructors were given of ``engines/``: any entry fails the test that looks."""
    import onnxruntime
    import openvino

    seen: list[str] = []
    session, compile_model = onnxruntime.InferenceSession, openvino.Core.compile_model

    def spied_session(path: Any, options: Any, **more: Any) -> Any:
        if path.endswith(MARK) or PLUGIN in str(more):
            seen.append(f"onnxruntime {more}")
        return session(path, options, **more)

    def spied_model(core: Any, path: Path, device: str, wanted: dict[str, str]) -> Any:  # no test opens one of ours
        seen.append(f"openvino {path}")
        return compile_model(core, path, device, wanted)

    module = fake_gpu.fake_tensorrt()
    monkeypatch.setattr(module, "Runtime", lambda *_: seen.append("tensorrt"))
    for name, fake in {"tensorrt": module, "tensorrt_rtx": module, **fake_gpu.fake_cupy()}.items():
        monkeypatch.setitem(sys.modules, name, fake)
    gpu = Gpu(name="a GPU", capability="8.9")
    monkeypatch.setattr("lcve_deploy.runtime.backends.tensorrt.find_gpu", lambda number=0: gpu)
    monkeypatch.setattr(onnxruntime, "InferenceSession", spied_session)
    monkeypatch.setattr(openvino.Core, "compile_model", spied_model)
    return seen


@pytest.fixture
def signed(server: Path, tmp_path: Path) -> Path:
    """The server folder, signed by its owner; ``pin`` is the public key."""
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    run_ok("sign", server, "--signing-key", tmp_path / "signing.pem")
    return server


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    return tmp_path / "signing.pub"


@pytest.fixture
def clip_file(artifact: Path, key_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "a.lcve"
    clip = ORACLE / "clip_8x32x32.npy"
    run_ok("encrypt", clip, "--key", key_file, "--client", artifact / "client", "-o", path)
    return path


def device_of(server: Path, kind: EngineKind) -> str:
    """Which device an attacker names in a proof: the one that a session here would name."""
    if kind not in (EngineKind.ONNXRUNTIME, EngineKind.OPENVINO):
        return "TensorRT 10.0 on a GPU"
    record = build(server, BuildOptions(kind=kind, name="probed"))
    shutil.rmtree(server / "engines")
    assert record.proof
    return record.proof.device


def plant(server: Path, kind: EngineKind, *, mac: str = "", **options: str) -> EngineRecord:
    """Add an engine as an attacker does: files of their own, a budget for any answer, a proof and a time made up."""
    record = EngineRecord(
        name="quick",
        kind=kind,
        precision=Precision.FP32,
        builder={"tensorrt": "10.0"},
        target="this machine",
        manifest_sha256=json.loads((server.parent / "client/client.json").read_text())["manifest_sha256"],
        options={**EVIL[kind], "budget": "1e9", **options},
        mac=mac,
    )
    device = device_of(server, kind)
    folder = engine_folder(server, record.name)
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes((server / "model.onnx").read_bytes() + MARK)
    (folder / "engine.plan").write_bytes(b"a plan of an attacker")
    proof = {"device": device, "clips": 8, "max_difference": 0.0, "budget": 1e9, "milliseconds": 1e-9}
    write_engine(folder, dataclasses.replace(record, files=record_files(folder)))
    content = json.loads((folder / "engine.json").read_text())
    (folder / "engine.json").write_text(json.dumps({**content, "proof": proof}))
    return record


def adopt(server: Path, record: EngineRecord, **options: str) -> Path:
    """Make a planted engine one of this machine; returns its folder."""
    folder = engine_folder(server, record.name)
    (folder / "engine.json").unlink()
    write_own_engine(folder, dataclasses.replace(record, options=options, files=record_files(folder)))
    return folder


@pytest.mark.parametrize("with_mac", ["", "ab" * 32], ids=["no MAC", "a MAC made up"])
@pytest.mark.parametrize("kind", RUNTIMES)
def test_no_command_opens_an_engine_that_someone_added(
    signed: Path, pin: Path, clip_file: Path, opened: list[str], kind: EngineKind, with_mac: str
) -> None:
    plant(signed, kind, mac=with_mac)
    opened.clear()
    shown = run_lcve("verify", signed, "--signed-by", pin)
    assert (shown.exit_code, "engine quick: " in shown.stdout) == (1, True)
    assert "engine quick: ok" not in shown.stdout
    assert "probe: ok" in shown.stdout  # the graph is the owner's
    for command in (
        ("verify", signed, "--engine", "quick", "--signed-by", pin),
        ("verify", signed, "--engine", "quick"),
        ("run", signed, clip_file, "--engine", "quick", "--signed-by", pin),
        ("run", signed, clip_file, "--engine", "fastest", "--signed-by", pin),
    ):
        assert "quick" in run_error(*command) or "no engine in" in run_error(*command)
    assert "never opened" in run_ok("inspect", signed)
    with pytest.raises((SessionError, ArtifactError), match="quick"):
        load_model(signed, SessionOptions(engine="quick"))
    assert opened == []


@pytest.mark.parametrize("kind", RUNTIMES)
def test_an_engine_with_allowed_options_alone_is_refused_by_its_mac(
    signed: Path, opened: list[str], kind: EngineKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is not the options that stop every case above."""
    monkeypatch.setitem(EVIL, kind, {})
    plant(signed, kind)
    opened.clear()
    for work in (
        lambda: verify_engine(signed, "quick"),
        lambda: open_session(signed, SessionOptions(engine="quick")),
        lambda: load_model(signed, SessionOptions(engine="quick")),
    ):
        with pytest.raises(ForeignEngineError, match=r"the engine quick was not made on this machine.*has no MAC"):
            work()
    assert opened == []


def test_the_spy_sees_a_planted_graph_that_is_opened(server: Path, opened: list[str]) -> None:
    """With a MAC of this machine it is opened."""
    adopt(server, plant(server, EngineKind.ONNXRUNTIME))
    opened.clear()
    verify_engine(server, "quick")
    assert opened == ["onnxruntime {'providers': [('CPUExecutionProvider', {})]}"]


def test_what_to_do_is_said(server: Path, pin: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that was copied to another machine: every way to go on is in the message."""
    build(server, BuildOptions())
    monkeypatch.setenv("LCVE_ENGINE_SECRET", str(tmp_path / "of another machine"))
    with pytest.raises(ForeignEngineError, match="this machine has no engine secret") as caught:
        open_session(server, SessionOptions(engine="onnxruntime-fp32"))
    command, _, _ = caught.value.hint.removeprefix("build it here: ").partition(". Machines that share engines")
    assert caught.value.hint.endswith("share the secret: LCVE_ENGINE_SECRET=FILE")
    remove, _, again = command.partition(" && ")
    assert remove == f"rm -r {server}/engines/onnxruntime-fp32"
    shutil.rmtree(server / "engines/onnxruntime-fp32")
    run_ok(*again.split()[1:])
    assert open_session(server, SessionOptions(engine="onnxruntime-fp32")).engine


def test_machines_that_share_the_secret_share_engines(
    server: Path, clip_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    run_ok("build", server, "--runtime", "onnxruntime", "--engine-secret", secret)
    assert "not made on this machine" in run_error("run", server, clip_file, "--engine", "onnxruntime-fp32")
    run_ok("run", server, clip_file, "--engine", "onnxruntime-fp32", "--engine-secret", secret)
    run_ok("verify", server, "--engine-secret", secret)
    monkeypatch.setenv("LCVE_ENGINE_SECRET", str(secret))
    run_ok("run", server, clip_file, "--engine", "fastest")


@pytest.mark.parametrize("kind", [EngineKind.ONNXRUNTIME, EngineKind.OPENVINO])
def test_a_time_made_up_does_not_make_an_engine_the_fastest(signed: Path, opened: list[str], kind: EngineKind) -> None:
    plant(signed, kind)
    build(signed, BuildOptions(name="ours"))
    opened.clear()
    with pytest.warns(EngineWarning, match="passed over the engine quick"):
        session = open_session(signed, SessionOptions(engine="fastest"))
    assert session.engine
    assert session.engine.name == "ours"
    assert opened == []


def test_the_commands_say_which_engine_was_passed_over(signed: Path, clip_file: Path) -> None:
    plant(signed, EngineKind.OPENVINO)
    build(signed, BuildOptions(name="ours"))
    shown = run_lcve("run", signed, clip_file, "--engine", "fastest")
    assert shown.exit_code == 0
    assert "warning: passed over the engine quick: the engine quick was not made on this machine" in shown.stderr


def test_a_server_logs_which_engine_was_passed_over(signed: Path, caplog: pytest.LogCaptureFixture) -> None:
    plant(signed, EngineKind.OPENVINO)
    build(signed, BuildOptions(name="ours"))
    session = load_model(signed, SessionOptions(engine="fastest")).session
    assert session.engine
    (record,) = (record for record in caplog.records if record.message == "engine passed over")
    assert record.__dict__["engine"] == "quick"


def test_a_choice_of_what_to_build_compares_no_engine_of_others(server: Path, opened: list[str]) -> None:
    build(server, OPENVINO)
    record = read_engine(server, "openvino-fp32")
    write_engine(engine_folder(server, record.name), dataclasses.replace(record, target="changed"))
    opened.clear()
    choice = EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO))
    selection = build_fastest(server, choice)
    assert selection.fastest.kind is EngineKind.ONNXRUNTIME
    reasons = {candidate.name: candidate.reason for candidate in selection.candidates}
    assert "was not made on this machine, or was changed since" in reasons["openvino-fp32"]
    assert opened == []


def changed(record: EngineRecord, **proof: Any) -> EngineRecord:
    assert record.proof
    return dataclasses.replace(record, proof=dataclasses.replace(record.proof, **proof))


CHANGES: dict[str, Callable[[EngineRecord], EngineRecord]] = {
    "a budget for any answer": lambda record: dataclasses.replace(record, options={**record.options, "budget": "0.9"}),
    "a quicker time": lambda record: changed(record, milliseconds=1e-9),
    "a wider proof": lambda record: changed(record, budget=1e9),
    "another device": lambda record: changed(record, device="here"),
    "another option": lambda record: dataclasses.replace(record, options={**record.options, "use_arena": "0"}),
    "another precision": lambda record: dataclasses.replace(record, precision=Precision.FP16),
    "another runtime": lambda record: dataclasses.replace(
        record, kind=EngineKind.OPENVINO, options={"budget": "0.5"}, files={}
    ),
    "no proof": lambda record: dataclasses.replace(record, proof=None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_record_that_was_changed_is_not_opened(
    server: Path, opened: list[str], change: Callable[[EngineRecord], EngineRecord]
) -> None:
    record = build(server, BuildOptions(budget=0.5))
    write_engine(engine_folder(server, record.name), change(record))
    opened.clear()
    with pytest.raises(ForeignEngineError, match="or was changed since"):
        verify_engine(server, record.name)
    with pytest.raises(ForeignEngineError, match="or was changed since"):
        open_session(server, SessionOptions(engine=record.name))
    assert opened == []


def test_a_mac_of_another_model_is_not_ours_here(
    server: Path, exported: Path, key: SecurityKey, opened: list[str], tmp_path: Path
) -> None:
    """Replayed whole it names the other manifest; with the manifest changed its MAC is wrong."""
    export_tiny(tmp_path / "other", key)
    record = build(tmp_path / "other/server", BuildOptions())
    shutil.copytree(tmp_path / "other/server/engines", server / "engines")
    opened.clear()
    with pytest.raises(SessionError, match="was built from another model"):
        open_session(server, SessionOptions(engine=record.name))
    own = build(server, BuildOptions(name="own"))
    opened.clear()
    write_engine(engine_folder(server, record.name), dataclasses.replace(record, manifest_sha256=own.manifest_sha256))
    with pytest.raises(ForeignEngineError):
        open_session(server, SessionOptions(engine=record.name))
    assert opened == []


def test_a_mac_of_an_older_build_is_not_one_of_the_newer(
    server: Path, encrypted: Any, opened: list[str], tmp_path: Path
) -> None:
    old = build(server, INT8, clips=encrypted)
    folder = engine_folder(server, old.name)
    shutil.copytree(folder, tmp_path / "old")
    shutil.rmtree(folder)
    other = dataclasses.replace(encrypted, values=encrypted.values // 2)
    new = build(server, dataclasses.replace(INT8, budget=0.5), clips=other)
    assert new.files != old.files
    opened.clear()
    write_engine(folder, dataclasses.replace(new, mac=old.mac))
    with pytest.raises(ForeignEngineError):
        open_session(server, SessionOptions(engine=old.name))
    write_engine(folder, old)  # the older record with its MAC, and the newer files
    with pytest.raises(ArtifactError, match=r"SHA-256|bytes, expected"):
        open_session(server, SessionOptions(engine=old.name))
    write_engine(folder, new)  # the newer record, and the older graph
    shutil.copy(tmp_path / "old/model.onnx", folder)
    with pytest.raises(ArtifactError, match=r"SHA-256|bytes, expected"):
        open_session(server, SessionOptions(engine=old.name))
    assert opened == []


def test_an_engine_under_another_name_is_not_opened(server: Path, opened: list[str]) -> None:
    record = build(server, BuildOptions())
    shutil.copytree(engine_folder(server, record.name), engine_folder(server, "renamed"))
    opened.clear()
    with pytest.raises(ArtifactError, match="name: expected text like renamed"):
        open_session(server, SessionOptions(engine="renamed"))
    write_engine(engine_folder(server, "renamed"), dataclasses.replace(record, name="renamed"))
    with pytest.raises(ForeignEngineError):
        open_session(server, SessionOptions(engine="renamed"))
    assert opened == []


def test_a_budget_of_this_machine_is_bounded_too(server: Path, opened: list[str]) -> None:
    with pytest.raises(SessionError, match=r"expected a budget of at most .*, the largest logit"):
        build(server, BuildOptions(budget=1e9))
    assert not (server / "engines").exists()
    record = build(server, BuildOptions())
    write_own_engine(engine_folder(server, record.name), dataclasses.replace(record, options={"budget": "1e9"}))
    with pytest.raises(SessionError, match=r"expected a budget of at most .* received 1e\+09"):
        verify_engine(server, record.name)
    with pytest.raises(SessionError, match="expected a budget of at most"):
        load_model(server, SessionOptions(engine=record.name))


@pytest.mark.parametrize(
    "option",
    [
        *(f"{PLUGIN}=/evil.so", "trt_engine_decryption_lib_path=/evil.so", "trt_engine_cache_path=/tmp"),
        *("user_compute_stream=4096", "gpu_external_alloc=4096", "trt_timing_cache_path=/tmp", "trt_fp16_enable=1"),
        *("nv_runtime_cache_path=/tmp", "trt_builder_optimization_level=6", "device_id=-1", "use_tf32=2"),
    ],
)
@pytest.mark.parametrize("provider", ["cuda", "tensorrt", "tensorrt-rtx"])
def test_an_option_that_is_not_allowed_never_reaches_onnx_runtime(
    server: Path, clip_file: Path, opened: list[str], option: str, provider: str
) -> None:
    name = option.partition("=")[0]
    given = ("--provider", provider, "--provider-option", option)
    assert f"{name}: " in run_error("run", server, clip_file, *given)
    assert f"{name}: " in run_error("build", server, "--runtime", "onnxruntime", *given)
    assert f"{name}: " in run_error("serve", server, *given)
    assert opened == []


def test_a_folder_that_is_swapped_while_an_engine_is_built_gets_no_mac(
    server: Path, encrypted: Any, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone who can write into ``engines/`` can rename the private folder in which an engine is built."""
    real = write_quantised

    def write_then_swap(*arguments: Any, **more: Any) -> None:
        real(*arguments, **more)
        (stage,) = (server / "engines").iterdir()
        shutil.copytree(stage, server.parent / "planted")
        with (server.parent / "planted/model.onnx").open("ab") as graph:
            graph.write(MARK)
        stage.rename(server.parent / "away")
        (server.parent / "planted").rename(stage)

    monkeypatch.setattr("lcve_deploy.verbs.build.write_quantised", write_then_swap)
    record = build(server, INT8, clips=encrypted)
    assert (engine_folder(server, record.name) / "model.onnx").read_bytes().endswith(MARK)
    with pytest.raises(ArtifactError, match=r"model\.onnx has \d+ bytes, expected"):
        verify_engine(server, record.name)
    assert opened == []


def test_verify_in_json_says_which_engine_is_foreign(signed: Path, pin: Path, opened: list[str]) -> None:
    plant(signed, EngineKind.OPENVINO)
    build(signed, BuildOptions())
    opened.clear()
    shown = run_lcve("verify", signed, "--signed-by", pin, "--json")
    report = json.loads(shown.stdout)
    assert (shown.exit_code, report["ok"], report["signature"]) == (1, False, "ok")
    assert report["engines"]["onnxruntime-fp32"]["ok"]
    assert report["engines"]["quick"]["foreign"]
    assert opened == []


def test_logits_of_the_graph_do_not_depend_on_what_someone_added(signed: Path, clip_file: Path, tmp_path: Path) -> None:
    run_ok("run", signed, clip_file, "--logits-out", tmp_path / "before.npy")
    plant(signed, EngineKind.ONNXRUNTIME)
    run_ok("run", signed, clip_file, "--logits-out", tmp_path / "after.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "before.npy"), np.load(tmp_path / "after.npy"))
