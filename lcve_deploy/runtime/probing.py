"""Run the probe of a model or of a key in a session, and judge the logits."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Probe
from lcve_deploy.artifact.key_folder import KeyFolder
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ParityError
from lcve_deploy.model.parity import ParityReport, max_difference
from lcve_deploy.runtime.session import Session

__all__ = ["ProbeReport", "check_answer", "probe_key", "probe_model"]


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


def probe_model(session: Session, probe: Probe, parity: ParityReport, *, tolerance: float | None = None) -> ProbeReport:
    """Run the probe of a model in a session, under the keyed tensors that the probe brings along.

    Args:
        session: the opened engine or graph.
        probe: random ciphertext, keyed tensors of no key, and the reference's logits.
        parity: parity report of the artifact.
        tolerance: maximum ``|Δlogit|`` at the logit scale of the compared clips; by default the artifact's. It is
            scaled up if the probe's logits are larger.
    """
    return check_answer(probe, session.run_with(probe.clip, probe.tensors), parity, tolerance=tolerance)


def probe_key(
    session: Session, folder: KeyFolder, parity: ParityReport, *, tolerance: float | None = None
) -> ProbeReport:
    """Run the probe of a key folder of the session's model, as a request under this key would run.

    Args:
        session: the opened engine or graph.
        folder: one of the session's key folders.
        parity: parity report of the artifact.
        tolerance: as for ``probe_model``.

    Raises:
        ArtifactError: the folder is damaged.
        UnknownKeyError: the session does not have the key.
    """
    probe = folder.probe()
    clip = EncryptedClip(values=probe.clip, binding=folder.manifest.binding)
    return check_answer(probe, session.run(clip), parity, tolerance=tolerance)


def check_answer(
    probe: Probe, logits: npt.NDArray[np.floating], parity: ParityReport, *, tolerance: float | None = None
) -> ProbeReport:
    """Check logits for the probe's clips; ``parity`` and ``tolerance`` are those of ``probe_model``."""
    growth = max(parity.least_scale, float(np.abs(probe.logits).max())) / parity.scale
    return ProbeReport(
        clips=len(probe.clip),
        max_difference=max_difference(probe.logits, logits),
        tolerance=(parity.tolerance if tolerance is None else tolerance) * max(1.0, growth),
    )
