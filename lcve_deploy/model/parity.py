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

AGREEMENTS: Final = ("top1_agreement", "top5_agreement", "min_cosine")
"""Figures that a report has or lacks, by the kind of output."""

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
        logit_scale: largest ``|logit|`` of the reference, or largest value of another output.
        top1_agreement: share of clips or tokens with the same top class, 0..1; None for features, without classes.
        top5_agreement: share with the same set of top five classes (or of all, if fewer); None for features.
        min_cosine: smallest cosine similarity of two vectors of features; None for logits.
        controls: largest ``|Δlogit|`` of each negative control, by the names of ``CONTROLS``.
        margin: multiple of the tolerance that the difference of every control must exceed.
    """

    reference: str
    clips: int
    tolerance: float
    max_difference: float
    mean_difference: float
    logit_scale: float
    top1_agreement: float | None
    top5_agreement: float | None
    controls: Mapping[str, float] = field(default_factory=dict)
    margin: float = CONTROL_MARGIN
    min_cosine: float | None = None

    @property
    def least_scale(self) -> float:
        """Smallest scale that tolerances grow with: 1 for logits, and none for features, which may all be small."""
        return 1.0 if self.min_cosine is None else 0.0

    @property
    def scale(self) -> float:
        """Scale of the output, which tolerances are relative to."""
        return max(self.least_scale, self.logit_scale)

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
            **{name: value for name in AGREEMENTS if (value := getattr(self, name)) is not None},
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
    has_classes: bool = True,
) -> ParityReport:
    """Compare outputs for the same clips.

    Args:
        expected: the plain model's logits, ``[clips, classes]``; or another output, ``[clips, ..., width]``.
        received: logits on the encrypted clips, in the plain order, of the same shape.
        reference: origin of ``expected``.
        tolerance: largest ``|Δlogit|`` to accept; by default 1e-4 · max(1, logit scale), or 1e-4 · scale for features.
        controls: largest ``|Δlogit|`` of the negative controls.
        margin: multiple of the tolerance that the difference of every control must exceed.
        has_classes: whether the last axis counts classes; features have none.

    Raises:
        ValueError: different or empty shapes, or features that are all zero.
    """
    if expected.shape != received.shape or expected.ndim < 2 or not expected.size:
        raise ValueError(f"expected equal shapes [clips, classes], received {expected.shape} and {received.shape}")
    scale = float(np.abs(expected).max())
    if not has_classes and not scale > 0:
        raise ValueError("expected features that are not all zero: they have no scale to compare at")
    difference = np.abs(expected.astype(np.float64) - received.astype(np.float64))
    return ParityReport(
        reference=reference,
        clips=len(expected),
        tolerance=RELATIVE_TOLERANCE * max(float(has_classes), scale) if tolerance is None else tolerance,
        max_difference=_worst(difference),
        mean_difference=float(difference.mean()),
        logit_scale=scale,
        top1_agreement=_top_agreement(expected, received, 1) if has_classes else None,
        top5_agreement=_top_agreement(expected, received, 5) if has_classes else None,
        min_cosine=None if has_classes else _min_cosine(expected, received),
        controls=dict(controls or {}),
        margin=margin,
    )


def max_difference(expected: Logits, received: Logits) -> float:
    """Return the largest ``|Δlogit|``; infinity if a logit is NaN."""
    return _worst(np.abs(expected.astype(np.float64) - received.astype(np.float64)))


def _worst(difference: npt.NDArray[np.float64]) -> float:
    return float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max())


def _top_agreement(expected: Logits, received: Logits, k: int) -> float:
    k = min(k, expected.shape[-1])
    tops = (np.sort(np.argsort(-logits, axis=-1, kind="stable")[..., :k], axis=-1) for logits in (expected, received))
    first, second = tops
    return float((first == second).all(axis=-1).mean())


def _min_cosine(expected: Logits, received: Logits) -> float:
    """Return the smallest cosine similarity of two vectors; 0 if it is negative, or one of them is NaN or zero."""
    first, second = (values.astype(np.float64).reshape(-1, values.shape[-1]) for values in (expected, received))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    same = (first == second).all(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = np.where(same, 1.0, (first * second).sum(axis=1) / np.where(lengths > 0, lengths, 1.0))
    return float(np.clip(np.nan_to_num(cosines, nan=0.0), 0.0, 1.0).min())
