"""Check an engine against the probe, as an operator can: without key or checkpoint."""

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
import numpy.typing as npt

from lcve_deploy.artifact import Manifest, Probe, Proof, PublicKey, read_probe
from lcve_deploy.artifact.engine_mac import authenticate
from lcve_deploy.artifact.engine_options import BUDGET
from lcve_deploy.artifact.engine_secret import make_secret
from lcve_deploy.artifact.engines import EngineRecord, engine_folder, write_engine
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ParityError, SessionError
from lcve_deploy.model.parity import ParityReport, max_difference
from lcve_deploy.model.precision import BUDGETS, Precision
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.runtime.opening import checked_manifest, open_engine, open_server, read_own_engine
from lcve_deploy.runtime.session import Session, SessionOptions

__all__ = [
    "ProbeReport",
    "budget_of",
    "check_answer",
    "engine_budget",
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
    """Result of running the probe on an engine.

    Args:
        clips: number of probe clips.
        max_difference: maximum ``|Δlogit|`` from the reference's logits.
        tolerance: maximum ``|Δlogit|`` that counts as equal.
    """

    clips: int
    max_difference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether all logits agree within the tolerance."""
        return math.isfinite(self.max_difference) and self.max_difference <= self.tolerance

    def require(self) -> None:
        """Raise if the engine failed the probe.

        Raises:
            ParityError: logits differ beyond the tolerance; the error says by how much.
        """
        if not self.ok:
            raise ParityError(
                f"the engine fails the probe: max |Δlogit| {self.max_difference:.3g}, tolerance {self.tolerance:.3g}",
                hint="do not serve it; try another precision or another version of the runtime",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def verify_server(server: str | os.PathLike[str], *, signed_by: PublicKey | None = None) -> ProbeReport:
    """Check the graph of a server folder without a key: signature, digests, then the probe.

    Args:
        server: the folder with ``manifest.json``.
        signed_by: the owner's public key, if pinned; without it no signature is checked.

    Raises:
        ArtifactError: the manifest is invalid, or files do not match it.
        SignatureError: the pinned key has not signed the manifest.
    """
    folder = Path(server)
    with version_boundary(folder):
        manifest, session = open_server(folder, SessionOptions(signed_by=signed_by))
        return probe_session(session, read_probe(folder, manifest), manifest.parity)


def verify_engine(
    server: str | os.PathLike[str],
    name: str,
    *,
    signed_by: PublicKey | None = None,
    engine_secret: Path | None = None,
) -> ProbeReport:
    """Check an engine of this machine without a key, and update its record with the result.

    Args:
        server: the folder with ``manifest.json``.
        name: engine name. The owner's signature does not cover engines.
        signed_by: the owner's public key, if pinned.
        engine_secret: file with this machine's secret, as of ``SessionOptions``.

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
        report, record = _reprove(folder, manifest, known)
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
    server: Path, manifest: Manifest, record: EngineRecord, budget: float | None = None
) -> tuple[ProbeReport, EngineRecord]:
    session = open_engine(engine_folder(server, record.name), manifest, record, server=server)
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
    report = probe_session(session, probe, parity, tolerance=budget or engine_budget(record, parity))
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
    clip = EncryptedClip(values=clips, binding=session.model.binding)
    started = time.perf_counter()
    session.run(clip)
    return (time.perf_counter() - started) / size


def engine_budget(record: EngineRecord, parity: ParityReport) -> float:
    """Return the maximum ``|Δlogit|`` that an engine was built with, or the default of its precision.

    Raises:
        SessionError: the budget is larger than every logit of the reference, so that zeros would be within it.
    """
    named = float(record.options.get(BUDGET, budget_of(record.precision, parity)))
    highest = max(1.0, parity.logit_scale, budget_of(record.precision, parity))
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
    return max(parity.tolerance, BUDGETS[precision] * max(1.0, parity.logit_scale))


def probe_session(
    session: Session, probe: Probe, parity: ParityReport, *, tolerance: float | None = None
) -> ProbeReport:
    """Run the probe in a session.

    Args:
        session: the opened engine or graph.
        probe: random ciphertext and the reference's logits.
        parity: parity report of the artifact.
        tolerance: maximum ``|Δlogit|`` at the logit scale of the compared clips; by default the artifact's. It is
            scaled up if the probe's logits are larger.
    """
    return check_answer(
        probe, session.run(EncryptedClip(values=probe.clip, binding=session.model.binding)), parity, tolerance=tolerance
    )


def check_answer(
    probe: Probe, logits: npt.NDArray[np.floating], parity: ParityReport, *, tolerance: float | None = None
) -> ProbeReport:
    """Check logits for the probe's clips; ``parity`` and ``tolerance`` are those of ``probe_session``."""
    growth = max(1.0, float(np.abs(probe.logits).max())) / max(1.0, parity.logit_scale)
    return ProbeReport(
        clips=len(probe.clip),
        max_difference=max_difference(probe.logits, logits),
        tolerance=(parity.tolerance if tolerance is None else tolerance) * max(1.0, growth),
    )
