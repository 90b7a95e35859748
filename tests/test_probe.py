"""Asking the probe, and what counts as a right answer; with sessions that answer what a test wants."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from lcve_deploy.artifact import EngineKind, EngineRecord, Probe, Profile, read_manifest, read_probe
from lcve_deploy.artifact.probe import parse_probe
from lcve_deploy.errors import ArtifactError, ParityError
from lcve_deploy.model.parity import ParityReport
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime import ProbeReport, probe
from lcve_deploy.runtime.probe import budget_of, probe_model, prove_engine, time_clip


class Answering:
    """A session that answers ``logits`` to every batch and keeps the batches."""

    device = "a test"
    engine: EngineRecord | None = None

    def __init__(self, server: Path, logits: np.ndarray) -> None:
        self.model, self._logits = read_manifest(server).model, logits
        self.batches: list[np.ndarray] = []
        self.tensors: list[Mapping[str, np.ndarray]] = []

    def run_with(self, values: np.ndarray, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        self.batches.append(values)
        self.tensors.append(tensors)
        return np.resize(self._logits, (len(values), 5))


def answering(server: Path, logits: np.ndarray) -> Any:
    """A stand-in for a session, of which only what a probe uses is there."""
    return Answering(server, logits)


@pytest.fixture
def server(exported: Path) -> Path:
    return exported / "server"


def asked(server: Path, scale: float = 1.0) -> Probe:
    """The artifact's probe with answers up to ``scale``."""
    probe = read_probe(server, read_manifest(server))
    return dataclasses.replace(probe, logits=np.full((len(probe.clip), 5), scale))


def parity_of(server: Path, *, tolerance: float, scale: float) -> ParityReport:
    return dataclasses.replace(read_manifest(server).parity, tolerance=tolerance, logit_scale=scale)


@pytest.mark.parametrize(
    ("difference", "tolerance", "ok"),
    [(0.25, 0.25, True), (0.2501, 0.25, False), (0.0, 0.0, True), (float("inf"), float("inf"), False)],
)
def test_an_answer_up_to_the_tolerance_is_right(difference: float, tolerance: float, ok: bool) -> None:
    report = ProbeReport(clips=1, max_difference=difference, tolerance=tolerance)
    assert report.ok is report.to_json()["ok"] is ok
    if not ok:
        with pytest.raises(ParityError, match="fails the probe"):
            report.require()


@pytest.mark.parametrize(
    ("probe_scale", "parity_scale", "growth"),
    [(1.0, 1.0, 1.0), (8.0, 2.0, 4.0), (8.0, 0.5, 8.0), (0.5, 4.0, 1.0), (2.0, 4.0, 1.0), (0.1, 0.1, 1.0)],
)
def test_the_tolerance_grows_with_the_logits_of_the_probe(
    server: Path, probe_scale: float, parity_scale: float, growth: float
) -> None:
    parity = parity_of(server, tolerance=0.25, scale=parity_scale)
    session = answering(server, np.full(5, probe_scale + 0.125))
    report = probe_model(session, asked(server, -probe_scale), parity)
    assert report.tolerance == 0.25 * growth
    assert (report.clips, report.max_difference) == (2, 2 * probe_scale + 0.125)
    wider = probe_model(session, asked(server, probe_scale), parity, tolerance=0.5)
    assert (wider.tolerance, wider.max_difference) == (0.5 * growth, 0.125)


def test_one_wrong_answer_of_two_is_seen(server: Path) -> None:
    session = answering(server, np.array([[1.0] * 5, [1.0] * 4 + [1.5]]))
    report = probe_model(session, asked(server), parity_of(server, tolerance=0.25, scale=1.0))
    assert (report.max_difference, report.ok) == (0.5, False)


@pytest.mark.parametrize("precision", list(Precision))
@pytest.mark.parametrize("scale", [0.5, 4.0])
def test_a_budget_is_for_a_precision_and_grows_with_the_logits(
    server: Path, precision: Precision, scale: float
) -> None:
    narrow, wide = (parity_of(server, tolerance=tolerance, scale=scale) for tolerance in (1e-4, 1.0))
    expected = 1e-4 if precision is Precision.FP32 else BUDGETS[precision] * max(1.0, scale)
    assert budget_of(precision, narrow) == expected
    assert budget_of(precision, wide) == 1.0


def test_the_budgets_are_those_of_the_documents() -> None:
    assert [BUDGETS[precision] for precision in map(Precision, ("fp32", "fp16", "bf16", "int8"))] == [
        1e-4,
        2e-3,
        2e-2,
        5e-2,
    ]


def record(**changes: Any) -> EngineRecord:
    return dataclasses.replace(
        EngineRecord(
            name="x",
            kind=EngineKind.ONNXRUNTIME,
            precision=Precision.INT8,
            builder={},
            target="",
            manifest_sha256="0" * 64,
        ),
        **changes,
    )


@pytest.mark.parametrize(
    ("named", "asked_for", "budget"), [(None, None, 0.05), ("0.5", None, 0.5), ("0.5", 0.25, 0.25)]
)
def test_a_proof_says_device_difference_budget_and_median_time(
    server: Path, monkeypatch: pytest.MonkeyPatch, named: str | None, asked_for: float | None, budget: float
) -> None:
    seconds = iter([5.0, 1.0, 3.0])
    monkeypatch.setattr(probe, "time_clip", lambda *_: next(seconds))
    session = answering(server, np.full(5, 1.125))
    parity = parity_of(server, tolerance=1e-4, scale=1.0)
    engine = record(options={"budget": named} if named else {})
    report, proof = prove_engine(session, asked(server), parity, engine, budget=asked_for)
    assert (proof.device, proof.clips, proof.max_difference) == ("a test", 2, 0.125)
    assert (proof.budget, proof.milliseconds) == (budget, 3000.0)
    assert report == ProbeReport(clips=2, max_difference=0.125, tolerance=budget)


@pytest.mark.parametrize(("profile", "size"), [(None, 1), (Profile(minimum=4, optimum=4, maximum=8), 4)])
def test_a_clip_is_timed_in_the_smallest_batch(
    server: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile | None, size: int
) -> None:
    ticks = iter([10.0, 18.0])
    monkeypatch.setattr("lcve_deploy.runtime.probe.time.perf_counter", lambda: next(ticks))
    session = answering(server, np.zeros(5))
    session.engine = record(profile=profile)
    assert time_clip(session, asked(server)) == 8.0 / size
    assert [len(batch) for batch in session.batches] == [size]
    np.testing.assert_array_equal(session.batches[0], np.repeat(asked(server).clip[:1], size, axis=0))


@pytest.mark.parametrize(
    "change",
    [
        {"clip": np.zeros((2, 64, 383), np.uint8)},
        {"clip": np.zeros((2, 64, 384), np.int8)},
        {"clip": np.zeros((3, 64, 384), np.uint8)},
        {"clip": np.array(0, np.uint8)},
        {"clip": np.zeros((0, 64, 384), np.uint8), "logits": np.zeros((0, 5))},
        {"logits": np.zeros((2, 4))},
        {"logits": np.zeros((1, 5))},
        {"logits": np.zeros((2, 5), np.float32)},
        {"logits": None},
        {"clip": None},
    ],
)
def test_a_probe_that_does_not_fit_the_manifest_is_refused(
    artifact: Path, change: dict[str, np.ndarray | None]
) -> None:
    server = artifact / "server"
    right = asked(server)
    tensors: dict[str, np.ndarray | None] = {"clip": right.clip, "logits": right.logits, **change}
    data = save({name: values for name, values in tensors.items() if values is not None})
    with pytest.raises(ArtifactError, match=r"does not match the manifest|cannot be read"):
        parse_probe(data, server / "probe.safetensors", read_manifest(server).model, with_tensors=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "cube_embedding.weight is missing"),
        ({"bank.tail": np.zeros(2, np.float32)}, "tail is not expected"),
        ({"bank.head.bias": np.zeros(5)}, "head.bias is float64"),
    ],
)
def test_the_probe_of_a_model_brings_the_keyed_tensors_of_the_model(
    artifact: Path, change: dict[str, np.ndarray], message: str
) -> None:
    server = artifact / "server"
    right = asked(server)
    bank = {f"bank.{name}": tensor for name, tensor in right.tensors.items()} if change else {}
    data = save({"clip": right.clip, "logits": right.logits, **bank, **change})
    with pytest.raises(ArtifactError, match=message):
        parse_probe(data, server / "probe.safetensors", read_manifest(server).model, with_tensors=True)


def test_the_probe_runs_under_the_tensors_that_it_brings(server: Path) -> None:
    session, probe = answering(server, np.zeros(5)), asked(server)
    probe_model(session, probe, read_manifest(server).parity)
    assert session.tensors == [probe.tensors]
    assert set(probe.tensors) == {spec.name.removeprefix("bank.") for spec in read_manifest(server).model.bank}


def test_a_folder_in_place_of_the_probe_is_one_clear_error(tmp_path: Path, server: Path) -> None:
    (tmp_path / "probe.safetensors").mkdir()
    with pytest.raises(ArtifactError, match="is not a regular file"):
        read_probe(tmp_path, read_manifest(server))
