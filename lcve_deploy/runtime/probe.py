"""Check an engine against the probe, as an operator can: without key or checkpoint."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from lcve_deploy.artifact import Manifest, Probe, Proof, PublicKey, read_probe
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_options import BUDGET
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import EngineRecord, engine_folder, write_engine
from lcve_deploy.artifact.key_folder import KeyFolder
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import LcveError, SessionError
from lcve_deploy.model.parity import ParityReport
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.runtime.opening import checked_manifest, open_engine, open_server, read_own_engine
from lcve_deploy.runtime.probing import ProbeReport, probe_key, probe_model
from lcve_deploy.runtime.session import Session, SessionOptions

__all__ = [
    "KeyCheck",
    "ProbeReport",
    "ServerReport",
    "budget_of",
    "check_keys",
    "engine_budget",
    "probe_key",
    "probe_model",
    "prove_engine",
    "reprove",
    "time_clip",
    "verify_engine",
    "verify_server",
]

_TIMES: Final = 3


@dataclass(frozen=True, kw_only=True)
class KeyCheck:
    """Result of checking one key folder.

    Args:
        name: of the folder in ``keys/``.
        key: key and salt that it is for; None if it is refused before that is known.
        probe: result of its probe; None if it could not be run.
        problem: why it is refused; empty if the probe was run.
    """

    name: str
    key: KeyRef | None
    probe: ProbeReport | None
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether the folder is in order and its probe is answered correctly."""
        return self.probe is not None and self.probe.ok

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        return {
            "name": self.name,
            **(dataclasses.asdict(self.key) if self.key else {}),
            "ok": self.ok,
            "problem": self.problem,
            "probe": self.probe.to_json() if self.probe else None,
        }


@dataclass(frozen=True, kw_only=True)
class ServerReport:
    """Result of checking a model folder.

    Args:
        model: result of the model's own probe.
        keys: result for every key folder, by name.
    """

    model: ProbeReport
    keys: Mapping[str, KeyCheck]

    @property
    def ok(self) -> bool:
        """Whether the model and all keys are in order."""
        return self.model.ok and all(check.ok for check in self.keys.values())

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain values."""
        keys = {name: check.to_json() for name, check in self.keys.items()}
        return {**self.model.to_json(), "ok": self.ok, "model_ok": self.model.ok, "keys": keys}


def verify_server(server: str | os.PathLike[str], *, signed_by: PublicKey | None = None) -> ServerReport:
    """Check the graph of a model folder without a key: signature, digests, its probe, then every key folder.

    Args:
        server: the folder with ``manifest.json``.
        signed_by: the owner's public key, if pinned; without it no signature is checked.

    Raises:
        ArtifactError: the manifest is invalid, or files do not match it. A key folder that is refused is part of the
            report instead.
        SignatureError: the pinned key has not signed the manifest.
    """
    folder = Path(server)
    with version_boundary(folder):
        manifest, session = open_server(folder, SessionOptions(signed_by=signed_by, max_keys=1))
        model = probe_model(session, read_probe(folder, manifest), manifest.parity)
        return ServerReport(model=model, keys=check_keys(session, manifest.parity))


def check_keys(session: Session, parity: ParityReport, *, tolerance: float | None = None) -> dict[str, KeyCheck]:
    """Check every key folder of a session by its files and its probe. One that is refused does not end the others.

    Args:
        session: the opened engine or graph.
        parity: parity report of the artifact.
        tolerance: as for ``probe_model``.
    """
    if session.folders is None:
        return {}
    refused = session.folders.refused.items()
    checks = [KeyCheck(name=name, key=None, probe=None, problem=problem) for name, problem in refused]
    for key, folder in session.folders.keys.items():
        checks.append(_check_key(session, key, folder, parity, tolerance))
    return {check.name: check for check in sorted(checks, key=lambda check: check.name)}


def _check_key(
    session: Session, key: KeyRef, folder: KeyFolder, parity: ParityReport, tolerance: float | None
) -> KeyCheck:
    name = folder.folder.name
    try:
        folder.verify()
        report = probe_key(session, folder, parity, tolerance=tolerance)
    except (LcveError, OSError) as error:
        return KeyCheck(name=name, key=key, probe=None, problem=str(error))
    return KeyCheck(name=name, key=key, probe=report)


def verify_engine(
    server: str | os.PathLike[str],
    name: str,
    *,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
    device: int | None = None,
) -> ProbeReport:
    """Check an engine of this machine without a key, and update its record with the result.

    Args:
        server: the folder with ``manifest.json``.
        name: engine name. The owner's signature does not cover engines.
        signed_by: the owner's public key, if pinned.
        engine_secret: file with this machine's secret, as of ``SessionOptions``.
        device: number of the GPU, as of ``SessionOptions``.

    Raises:
        ArtifactError: there is no such engine, or files do not match its record.
        SignatureError: the pinned key has not signed the manifest.
        ForeignEngineError: this machine has not made the engine; it has not been opened.
        SessionError, MissingDependencyError: the engine cannot run here.
        WriteError: the record must change but cannot be written.
    """
    folder = Path(server)
    manifest, known = checked_manifest(folder, signed_by), read_own_engine(folder, name, engine_secret)
    with version_boundary(folder):
        report, record = _reprove(folder, manifest, known, device=device)
    same = known.proof is not None and record.proof is not None and known.proof.device == record.proof.device
    if not same:  # write only changes: the folder may be read-only
        write_engine(engine_folder(folder, name), authenticate(record, make_secret(folder, engine_secret)))
    return report


def reprove(
    server: Path,
    name: str,
    *,
    budget: float | None = None,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
) -> tuple[ProbeReport, EngineRecord]:
    """Run the probe on an engine of this machine. Return the report and the updated record, without writing it.

    Args:
        server: the folder with ``manifest.json``.
        name: engine name.
        budget: maximum ``|Δlogit|``; by default the budget that the engine was built with.
        signed_by: the owner's public key, if pinned.
        engine_secret: file with this machine's secret, as of ``SessionOptions``.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: as for ``verify_engine``.
    """
    manifest, record = checked_manifest(server, signed_by), read_own_engine(server, name, engine_secret)
    return _reprove(server, manifest, record, budget)


def _reprove(
    server: Path, manifest: Manifest, record: EngineRecord, budget: float | None = None, *, device: int | None = None
) -> tuple[ProbeReport, EngineRecord]:
    options = SessionOptions(engine=record.name, device=device, max_keys=1)
    session = open_engine(engine_folder(server, record.name), manifest, record, server=server, options=options)
    report, proof = prove_engine(session, read_probe(server, manifest), manifest.parity, record, budget=budget)
    return report, dataclasses.replace(record, proof=proof if report.ok else None)


def prove_engine(
    session: Session, probe: Probe, parity: ParityReport, record: EngineRecord, *, budget: float | None = None
) -> tuple[ProbeReport, Proof]:
    """Run the probe on an engine, and time it.

    Args:
        session: the opened engine.
        probe: probe of the artifact.
        parity: parity report of the artifact.
        record: record of the engine.
        budget: maximum ``|Δlogit|``; by default the budget that the engine was built with.

    Raises:
        SessionError: the budget in the record is above every logit.
    """
    report = probe_model(session, probe, parity, tolerance=budget or engine_budget(record, parity))
    proof = Proof(
        device=session.device,
        clips=report.clips,
        max_difference=report.max_difference,
        budget=report.tolerance,
        milliseconds=1e3 * median(time_clip(session, probe) for _ in range(_TIMES)),
    )
    return report, proof


def time_clip(session: Session, probe: Probe) -> float:
    """Measure seconds per clip in the engine's smallest batch."""
    profile = session.engine.profile if session.engine else None
    size = profile.minimum if profile else 1
    clips = np.repeat(probe.clip[:1], size, axis=0)
    started = time.perf_counter()
    session.run_with(clips, probe.tensors)
    return (time.perf_counter() - started) / size


def engine_budget(record: EngineRecord, parity: ParityReport) -> float:
    """Return the maximum ``|Δlogit|`` that an engine was built with, or the default of its precision.

    Raises:
        SessionError: the budget is larger than every logit of the reference, so that zeros would be within it.
    """
    named = float(record.options.get(BUDGET, budget_of(record.precision, parity)))
    highest = max(parity.scale, budget_of(record.precision, parity))
    if not 0 < named <= highest:
        raise SessionError(
            f"expected a budget of at most {highest:.3g}, the largest logit, for the engine {record.name}, "
            f"received {named:.3g}",
            hint="build the engine again with a smaller --budget",
        )
    return named


def budget_of(precision: Precision, parity: ParityReport) -> float:
    """Return the default maximum ``|Δlogit|``: the artifact's own tolerance, or the budget of the precision."""
    if precision is Precision.FP32:
        return parity.tolerance
    return max(parity.tolerance, BUDGETS[precision] * parity.scale)
