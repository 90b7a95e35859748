"""Score all that an attack finds: its orders, and the clip that it shows."""

from __future__ import annotations

from typing import Final

from lcve_deploy.attacks.catalogue import Attack
from lcve_deploy.attacks.coefficients.frequencies import energies
from lcve_deploy.attacks.coefficients.score import score_coefficients
from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.score import Recovery, Space, score_order
from lcve_deploy.attacks.similarity import Similarity, compare_clips
from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry

__all__ = ["ORDERS", "measure_scores", "score_clip", "score_orders", "spaces"]

ORDERS: Final = {"cubes": "K1", "values": "K2", "labels": "K3", "signs": "signs"}
"""Names of the orders in the format, and of the signs, by field of an estimate."""


def spaces(holdings: Holdings, *, symmetric: bool, classes: int) -> dict[str, Space]:
    """Return the space of each order's entries; with the symmetries that scores of smoothness allow, or with none."""
    geometry, flips = holdings.geometry, holdings.scheme is Scheme.LCVE
    values = Space(grid=geometry.cube, channels=geometry.channels, symmetric=symmetric, flips=flips)
    return {
        "cubes": Space(grid=geometry.grid, symmetric=symmetric),
        "values": values,
        "labels": Space(grid=(classes,)),
        "signs": values,
    }


def score_orders(attack: Attack, estimate: Estimate, truth: Estimate, holdings: Holdings) -> dict[str, Recovery]:
    """Return the scores of the orders that an attack finds, as far as both sides have them."""
    pairs = {name: (getattr(estimate, name), getattr(truth, name)) for name in ORDERS if name in attack.finds}
    classes = len(truth.labels) if truth.labels is not None else 1
    known = spaces(holdings, symmetric=attack.symmetric, classes=classes)
    both = {name: pair for name, pair in pairs.items() if pair[0] is not None and pair[1] is not None}
    scores: dict[str, Recovery] = {}
    if holdings.scheme is Scheme.DCT and "values" in both:
        weights = None if truth.clip is None else energies(truth.clip, holdings.geometry)
        scores = score_coefficients(estimate, truth, known["values"], weights)
    return {
        name: scores[name] if name in scores else score_order(*pair, known[name])
        for name, pair in both.items()
        if name != "signs" or name in scores
    }


def score_clip(attack: Attack, estimate: Estimate, truth: Estimate, geometry: ClipGeometry) -> Similarity | None:
    """Return the similarity of the clip of an estimate to the true one; None if one of them is missing."""
    if estimate.clip is None or truth.clip is None:
        return None
    return compare_clips(estimate.clip, truth.clip, geometry, symmetric=attack.symmetric)


def measure_scores(
    attack: Attack, estimate: Estimate, truth: Estimate, holdings: Holdings, measure: str
) -> dict[str, float]:
    """Return the score of everything that an attack finds, by a measure; without a clip that has no such score."""
    recovered = score_orders(attack, estimate, truth, holdings)
    scores = {name: float(getattr(recovery, measure)) for name, recovery in recovered.items()}
    similarity = score_clip(attack, estimate, truth, holdings.geometry) if "clip" in attack.finds else None
    score = getattr(similarity, measure) if similarity else None
    return scores if score is None else {**scores, "clip": float(score)}
