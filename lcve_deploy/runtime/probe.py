"""The operator's check: does an engine answer the probe as the reference did? No key, no checkpoint."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcve_deploy.artifact import Probe, read_probe
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ParityError
from lcve_deploy.parity import ParityReport, max_difference
from lcve_deploy.runtime.session import Session, open_session

__all__ = ["ProbeReport", "probe_session", "verify_server"]


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
        return self.max_difference <= self.tolerance

    def require(self) -> None:
        """Raise where an answer is wrong.

        Raises:
            ParityError: says by how much.
        """
        if not self.ok:
            raise ParityError(
                f"the engine answers the probe wrongly: max |Δlogit| {self.max_difference:.3g}, tolerance "
                f"{self.tolerance:.3g}",
                hint="do not serve it; another version of the runtime may be right",
            )

    def to_json(self) -> dict[str, Any]:
        """The figures as plain values."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def verify_server(server: str | os.PathLike[str]) -> ProbeReport:
    """The operator's check, without a key: digests, then the probe's answers.

    Raises:
        ArtifactError: a manifest that does not hold, or files that are not its own.
    """
    session = open_session(server)
    return probe_session(session, read_probe(Path(server), session.manifest), session.manifest.parity)


def probe_session(session: Session, probe: Probe, parity: ParityReport) -> ProbeReport:
    """Ask a session the probe.

    Args:
        session: the engine.
        probe: random ciphertext and the reference's answers.
        parity: of the artifact; its tolerance, which went with the logits of real clips, grows with
            those of the probe.
    """
    logits = session.run(EncryptedClip(values=probe.clip, binding=session.manifest.binding))
    growth = max(1.0, float(np.abs(probe.logits).max())) / max(1.0, parity.logit_scale)
    return ProbeReport(
        clips=len(probe.clip),
        max_difference=max_difference(probe.logits, logits),
        tolerance=parity.tolerance * max(1.0, growth),
    )
