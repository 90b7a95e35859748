"""The operator's check: does an engine answer the probe as the reference did? No key, no checkpoint."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np

from lcve_deploy.artifact import Probe, Proof, PublicKey, read_engine, read_probe
from lcve_deploy.artifact.engines import EngineRecord, check_engine, engine_folder, write_engine
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ParityError
from lcve_deploy.model.parity import ParityReport, max_difference
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime.opening import checked_manifest, open_checked, open_engine
from lcve_deploy.runtime.session import Session

__all__ = [
    "ProbeReport",
    "budget_of",
    "probe_session",
    "prove_engine",
    "reprove",
    "time_clip",
    "verify_engine",
    "verify_server",
]

_TIMES: Final = 3


@dataclass(frozen=True, kw_only=True)
class ProbeReport:
    """An engine's answers to the probe.

    Args:
        clips: probes asked.
        max_difference: largest ``|Δlogit|`` from the reference's answers.
        tolerance: largest ``|Δlogit|`` that counts as equal.
    """

    clips: int
    max_difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every answer is equal within the tolerance."""
        return math.isfinite(self.max_difference) and self.max_difference <= self.tolerance

    def require(self) -> None:
        """Raise where an answer is wrong.

        Raises:
            ParityError: says by how much.
        """
        if not self.ok:
            raise ParityError(
                f"the engine answers the probe wrongly: max |Δlogit| {self.max_difference:.3g}, tolerance "
                f"{self.tolerance:.3g}",
                hint="do not serve it; another precision, or another version of the runtime, may be right",
            )

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def verify_server(server: str | os.PathLike[str], *, signed_by: PublicKey | None = None) -> ProbeReport:
    """The operator's check of the graph, without a key: signature, digests, then the probe's answers.

    Args:
        server: the folder with ``manifest.json``.
        signed_by: the owner's public key, where it is pinned; without, no signature is checked.

    Raises:
        ArtifactError: a manifest that does not hold, or files that are not its own.
        SignatureError: a key is pinned, and has not signed the manifest.
    """
    folder = Path(server)
    manifest = checked_manifest(folder, signed_by)
    return probe_session(open_checked(folder, manifest), read_probe(folder, manifest), manifest.parity)


def verify_engine(server: str | os.PathLike[str], name: str, *, signed_by: PublicKey | None = None) -> ProbeReport:
    """The operator's check of an engine; its record then says what it showed, on this machine.

    Args:
        server: the folder with ``manifest.json``.
        name: of the engine, which is outside the owner's signature.
        signed_by: the owner's public key, where it is pinned.

    Raises:
        ArtifactError: no such engine, or files that are not its own.
        SignatureError: a key is pinned, and has not signed the manifest.
        SessionError, MissingDependencyError: it cannot run here.
        WriteError: the record has to change, and cannot be written.
    """
    folder = Path(server)
    known = read_engine(folder, name)
    report, record = reprove(folder, name, signed_by=signed_by)
    same = known.proof is not None and record.proof is not None and known.proof.device == record.proof.device
    if not same:  # where nothing changes, nothing is written: the folder may be read-only
        write_engine(engine_folder(folder, name), record)
    return report


def reprove(
    server: Path, name: str, *, budget: float | None = None, signed_by: PublicKey | None = None
) -> tuple[ProbeReport, EngineRecord]:
    """Ask an engine the probe on this machine; the record comes back with what it showed, and is not written.

    Args:
        server: the folder with ``manifest.json``.
        name: of the engine.
        budget: largest ``|Δlogit|``, by default the one that it was built with.
        signed_by: the owner's public key, where it is pinned.

    Raises:
        ArtifactError, SignatureError, SessionError, MissingDependencyError: as of ``verify_engine``.
    """
    manifest, record = checked_manifest(server, signed_by), read_engine(server, name)
    check_engine(server, record)
    session = open_engine(engine_folder(server, name), manifest.model, record, server=server)
    report, proof = prove_engine(session, read_probe(server, manifest), manifest.parity, record, budget=budget)
    return report, dataclasses.replace(record, proof=proof if report.ok else None)


def prove_engine(
    session: Session, probe: Probe, parity: ParityReport, record: EngineRecord, *, budget: float | None = None
) -> tuple[ProbeReport, Proof]:
    """Ask an engine the probe, and time it.

    Args:
        session: the engine.
        probe: of the artifact.
        parity: of the artifact.
        record: of the engine.
        budget: largest ``|Δlogit|``, by default the one that it was built with.
    """
    named = record.options.get("budget")
    budget = budget or (float(named) if named else budget_of(record.precision, parity))
    report = probe_session(session, probe, parity, tolerance=budget)
    proof = Proof(
        device=session.device,
        clips=report.clips,
        max_difference=report.max_difference,
        budget=report.tolerance,
        milliseconds=1e3 * median(time_clip(session, probe) for _ in range(_TIMES)),
    )
    return report, proof


def time_clip(session: Session, probe: Probe) -> float:
    """Seconds for a clip of the smallest batch that an engine takes."""
    profile = session.engine.profile if session.engine else None
    size = profile.minimum if profile else 1
    clips = np.repeat(probe.clip[:1], size, axis=0)
    clip = EncryptedClip(values=clips, binding=session.model.binding)
    started = time.perf_counter()
    session.run(clip)
    return (time.perf_counter() - started) / size


def budget_of(precision: Precision, parity: ParityReport) -> float:
    """Largest ``|Δlogit|`` by default: the artifact's own tolerance, or the budget of the precision."""
    if precision is Precision.FP32:
        return parity.tolerance
    return max(parity.tolerance, BUDGETS[precision] * max(1.0, parity.logit_scale))


def probe_session(
    session: Session, probe: Probe, parity: ParityReport, *, tolerance: float | None = None
) -> ProbeReport:
    """Ask a session the probe.

    Args:
        session: the engine.
        probe: random ciphertext and the reference's answers.
        parity: of the artifact.
        tolerance: largest ``|Δlogit|`` for logits like those of the compared clips, by default that of the
            artifact; it grows with the logits of the probe.
    """
    logits = session.run(EncryptedClip(values=probe.clip, binding=session.model.binding))
    growth = max(1.0, float(np.abs(probe.logits).max())) / max(1.0, parity.logit_scale)
    return ProbeReport(
        clips=len(probe.clip),
        max_difference=max_difference(probe.logits, logits),
        tolerance=(parity.tolerance if tolerance is None else tolerance) * max(1.0, growth),
    )
