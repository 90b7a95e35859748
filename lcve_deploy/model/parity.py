"""Compare encrypted with plain logits, and check that negative controls disagree. NumPy only.

Source: equality is LCVE paper section 3.3; the controls prevent a comparison from passing if the key
makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import ParityError

__all__ = [
    "BUDGET_MARGIN",
    "CONTROLS",
    "CONTROL_MARGIN",
    "RELATIVE_TOLERANCE",
    "ParityReport",
    "compare",
    "max_difference",
]

RELATIVE_TOLERANCE: Final = 1e-4
"""Default tolerance, relative to max(1, logit scale)."""

CONTROL_MARGIN: Final = 100.0
"""Multiple of the tolerance that the difference of every control must exceed."""

BUDGET_MARGIN: Final = 3.0
"""``CONTROL_MARGIN`` of an engine in a lower precision, whose tolerance is a budget and not rounding noise."""

CONTROLS: Final = {
    "wrong_key": "wrong key",
    "plain_into_scrambled": "plain clip, scrambled model",
    "encrypted_into_plain": "encrypted clip, plain model",
    "cubes_without_pixels": "cube order without pixel order",
}

Logits = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """Figures of one comparison, as published in the manifest.

    Args:
        reference: origin of the plain logits.
        clips: number of clips compared.
        tolerance: largest ``|Δlogit|`` that counts as equal.
        max_difference: largest ``|Δlogit|`` seen.
        mean_difference: mean ``|Δlogit|``.
        logit_scale: largest ``|logit|`` of the reference.
        top1_agreement: share of clips with the same top class, 0..1.
        top5_agreement: share of clips with the same set of top five classes (or of all, if fewer).
        controls: largest ``|Δlogit|`` of each negative control, by the names of ``CONTROLS``.
        margin: multiple of the tolerance that the difference of every control must exceed.
    """

    reference: str
    clips: int
    tolerance: float
    max_difference: float
    mean_difference: float
    logit_scale: float
    top1_agreement: float
    top5_agreement: float
    controls: Mapping[str, float] = field(default_factory=dict)
    margin: float = CONTROL_MARGIN

    @property
    def control_minimum(self) -> float:
        """The difference that every control must exceed."""
        return self.margin * self.tolerance

    @property
    def agrees(self) -> bool:
        """Whether encrypted and plain logits are equal within the tolerance."""
        return self.max_difference <= self.tolerance

    @property
    def agreeing_controls(self) -> tuple[str, ...]:
        """Controls whose difference from the reference is too small."""
        return tuple(name for name, gap in self.controls.items() if not gap > self.control_minimum)

    @property
    def missing_controls(self) -> tuple[str, ...]:
        """Controls that have not been measured."""
        return tuple(name for name in CONTROLS if name not in self.controls)

    @property
    def ok(self) -> bool:
        """Whether the logits agree and every control disagrees."""
        return self.agrees and not self.agreeing_controls and not self.missing_controls

    def require(self) -> None:
        """Require agreement, with every control in disagreement.

        Raises:
            ParityError: names the figure and the bound that it missed.
        """
        self.require_agreement()
        if self.missing_controls:
            raise ParityError(f"controls that were not measured: {', '.join(self.missing_controls)}")
        if self.agreeing_controls:
            gaps = ", ".join(f"{CONTROLS[name]} {self.controls[name]:.3g}" for name in self.agreeing_controls)
            raise ParityError(
                f"a control agrees, so parity proves nothing: {gaps}; each must exceed "
                f"{self.control_minimum:.3g} ({self.margin:g} tolerances)",
                hint="the logits of this model hardly depend on its input; if it is right, lower --tolerance",
            )

    def require_agreement(self) -> None:
        """Require that the logits agree, whatever the controls show.

        Raises:
            ParityError: the logits differ; states by how much.
        """
        if not self.agrees:
            raise ParityError(
                f"encrypted and plain logits differ: max |Δlogit| {self.max_difference:.3g} over {self.clips} clips, "
                f"tolerance {self.tolerance:.3g}",
                hint="the artifact must not be used; see docs/reference/parity.md for the usual causes",
            )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain values."""
        return {
            "reference": self.reference,
            "clips": self.clips,
            "tolerance": self.tolerance,
            "max_difference": self.max_difference,
            "mean_difference": self.mean_difference,
            "logit_scale": self.logit_scale,
            "top1_agreement": self.top1_agreement,
            "top5_agreement": self.top5_agreement,
            "controls": dict(self.controls),
        }


def compare(
    expected: Logits,
    received: Logits,
    *,
    reference: str,
    tolerance: float | None = None,
    controls: Mapping[str, float] | None = None,
    margin: float = CONTROL_MARGIN,
) -> ParityReport:
    """Compare logits of the same clips.

    Args:
        expected: the plain model's logits, ``[clips, classes]``.
        received: logits on the encrypted clips, labels in the plain order, ``[clips, classes]``.
        reference: origin of ``expected``.
        tolerance: largest ``|Δlogit|`` to accept; by default 1e-4 · max(1, logit scale).
        controls: largest ``|Δlogit|`` of the negative controls.
        margin: multiple of the tolerance that the difference of every control must exceed.

    Raises:
        ValueError: different or empty shapes.
    """
    if expected.shape != received.shape or expected.ndim != 2 or not expected.size:
        raise ValueError(f"expected equal shapes [clips, classes], received {expected.shape} and {received.shape}")
    scale = float(np.abs(expected).max())
    difference = np.abs(expected.astype(np.float64) - received.astype(np.float64))
    return ParityReport(
        reference=reference,
        clips=len(expected),
        tolerance=RELATIVE_TOLERANCE * max(1.0, scale) if tolerance is None else tolerance,
        max_difference=_worst(difference),
        mean_difference=float(difference.mean()),
        logit_scale=scale,
        top1_agreement=_top_agreement(expected, received, 1),
        top5_agreement=_top_agreement(expected, received, 5),
        controls=dict(controls or {}),
        margin=margin,
    )


def max_difference(expected: Logits, received: Logits) -> float:
    """Return the largest ``|Δlogit|``; infinity if a logit is NaN."""
    return _worst(np.abs(expected.astype(np.float64) - received.astype(np.float64)))


def _worst(difference: npt.NDArray[np.float64]) -> float:
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max())


def _top_agreement(expected: Logits, received: Logits, k: int) -> float:
    k = min(k, expected.shape[1])
    tops = (np.sort(np.argsort(-logits, axis=1, kind="stable")[:, :k], axis=1) for logits in (expected, received))
    first, second = tops
    return float((first == second).all(axis=1).mean())
