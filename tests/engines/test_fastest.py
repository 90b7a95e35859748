"""The fastest."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, EngineRecord, list_engines, read_engine
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.errors import (
    BuildError,
    SessionError,
    WriteError,
)
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime import verify_engine
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
from lcve_deploy.runtime.opening import EngineWarning
from lcve_deploy.runtime.probe import prove_engine
from lcve_deploy.verbs.build import BuildOptions, build
from lcve_deploy.verbs.fastest import EngineChoice, build_fastest
from tests.conftest import run_lcve, run_ok
from tests.engines.helpers import INT8, OPENVINO, cpu_has
from tests.support.engines import write_own_engine


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
        assert "fails the probe" in reasons[name]
    assert reasons["onnxruntime-bf16"]
    has_bf16 = cpu_has(Precision.BF16)
    assert ("fails the probe" if has_bf16 else "to compute with bf16") in reasons["openvino-bf16"]


def test_the_fastest_of_what_was_there_stays(server: Path) -> None:
    build(server, BuildOptions(name="mine"))
    selection = build_fastest(server, EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)))
    assert set(list_engines(server)) == {"mine", selection.fastest.name}


def test_an_engine_from_before_is_held_to_the_budget(server: Path, encrypted: EncryptedClip) -> None:
    record = build(server, INT8, clips=encrypted)
    assert record.proof is not None
    write_own_engine(
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
    assert "exceeds the budget" in {c.name: c.reason for c in selection.candidates}["onnxruntime-int8"]
    assert set(list_engines(server)) == {"onnxruntime-fp32", "onnxruntime-int8"}
    assert read_engine(server, record.name).proof is not None  # it is within the budget that it was proven for


def test_proofs_of_other_machines_are_passed_over(server: Path) -> None:
    build(server, BuildOptions())
    other = build(server, OPENVINO)
    assert other.proof is not None
    foreign = dataclasses.replace(other.proof, device="openvino on another CPU", milliseconds=1e-3)
    write_own_engine(engine_folder(server, other.name), dataclasses.replace(other, proof=foreign))
    with pytest.warns(EngineWarning, match=r"passed over the engine openvino-fp32: .* but not on openvino"):
        assert open_session(server, SessionOptions(engine="fastest")).device.startswith("onnxruntime")


@pytest.mark.parametrize("quickest", ["openvino-fp32", "onnxruntime-fp32"])
def test_the_fastest_of_several_proven_engines_is_the_one_that_opens(server: Path, quickest: str) -> None:
    """Times are made up; neither the order of names nor that of building decides."""
    for options in (BuildOptions(), OPENVINO, BuildOptions(name="a"), BuildOptions(name="z")):
        record = build(server, options)
        assert record.proof is not None
        proof = dataclasses.replace(record.proof, milliseconds=2.0 if record.name == quickest else 30.0)
        write_own_engine(engine_folder(server, record.name), dataclasses.replace(record, proof=proof))
    session = open_session(server, SessionOptions(engine="fastest"))
    assert session.engine is not None
    assert session.engine.name == quickest
    assert session.device.startswith(quickest.partition("-")[0])


def test_an_engine_that_answers_wrongly_loses_its_proof(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an update of its runtime or driver: what was right once is asked again, and is not offered any more."""
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession._compute
    assert verify_engine(server, name).ok
    monkeypatch.setattr(OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips)[:, ::-1])
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.cpu_name", lambda: "after the update")
    result = run_lcve("verify", server, "--engine", name)
    assert (result.exit_code, result.stdout.startswith("probe: FAILED")) == (1, True)
    assert read_engine(server, name).proof is None
    for wanted in (name, "fastest"):
        with pytest.raises(SessionError, match=r"is unproven|no engine in"):
            open_session(server, SessionOptions(engine=wanted))


def test_an_engine_that_answers_wrongly_where_it_was_proven_loses_its_proof_too(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession._compute
    monkeypatch.setattr(OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips) + 1)
    assert not verify_engine(server, name).ok
    assert read_engine(server, name).proof is None


def test_a_choice_of_the_fastest_takes_the_proof_of_an_engine_that_answers_wrongly(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, run = build(server, BuildOptions()).name, OnnxRuntimeSession._compute
    monkeypatch.setattr(OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips) * np.nan)
    selection = build_fastest(server, EngineChoice(kinds=(EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)))
    assert selection.fastest.kind is EngineKind.OPENVINO
    assert set(list_engines(server)) == {name, selection.fastest.name}
    assert read_engine(server, name).proof is None


def test_the_record_of_an_engine_is_replaced_in_one_step(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = build(server, BuildOptions())
    folder = engine_folder(server, record.name)
    before = (folder / "engine.json").read_bytes()
    os.link(folder / "engine.json", server.parent / "as it was")
    write_own_engine(folder, dataclasses.replace(record, proof=None))
    assert read_engine(server, record.name).proof is None
    assert (server.parent / "as it was").read_bytes() == before
    (folder / "engine.json").write_bytes(before)

    def full(path: Path, target: Path) -> None:
        assert path.parent == folder.parent  # every file within must be listed
        assert [entry.name for entry in folder.iterdir()] == ["engine.json"]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(WriteError, match="No space left"):
        write_own_engine(folder, dataclasses.replace(record, proof=None))
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
