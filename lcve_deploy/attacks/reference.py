"""All orders from an artifact and a model that it may come from: rows with rows, by assignment.

A fine-tuned model keeps most of the embedding, the positions and often the classifier that it began
with, so the reference need not be the very checkpoint that was exported.

Source: the idea that public weights undo an obfuscation of private ones, as in ArrowMatch (USENIX
Security 2025), here for this scheme.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, random_weights, scrambled
from lcve_deploy.attacks.positions import position_rows
from lcve_deploy.attacks.solvers.assignment import match_rows
from lcve_deploy.geometry import ClipGeometry

__all__ = ["drifted", "match_artifacts", "match_reference", "plant_artifacts", "plant_reference"]

_PLANTED_DRIFT = 0.5


def match_reference(holdings: Holdings) -> Estimate:
    """Match positions, embedding columns and classifier rows with those of the reference."""
    return _matched(holdings.artifact, holdings.reference, holdings.geometry)


def match_artifacts(holdings: Holdings) -> Estimate:
    """Match two artifacts of one model: where each entry of this one stands in the other."""
    return _matched(holdings.artifact, holdings.other, holdings.geometry)


def drifted(holdings: Holdings, drift: float, rng: np.random.Generator) -> Holdings:
    """The reference with noise of ``drift`` times the deviation of every tensor: as if it had been trained further."""
    reference = {
        name: tensor + drift * np.std(tensor) * rng.standard_normal(tensor.shape)
        for name, tensor in (holdings.reference or {}).items()
    }
    return Holdings(geometry=holdings.geometry, artifact=holdings.artifact, reference=reference)


def plant_reference(rng: np.random.Generator) -> Planted:
    """A random model, scrambled, and the model that it was before it drifted by half its deviation."""
    truth, plain = random_truth(rng), random_weights(rng)
    artifact = scrambled(plain, truth)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact, reference=plain)
    return Planted(holdings=drifted(holdings, _PLANTED_DRIFT, rng), truth=truth)


def plant_artifacts(rng: np.random.Generator) -> Planted:
    """A random model under two sets of orders; the truth is how they lie to each other."""
    first, truth, plain = random_truth(rng), random_truth(rng), random_weights(rng)
    other = scrambled(plain, first)
    return Planted(
        holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=scrambled(other, truth), other=other), truth=truth
    )


def _matched(tensors: Tensors | None, known: Tensors | None, geometry: ClipGeometry) -> Estimate:
    tensors, known = tensors or {}, known or {}
    return Estimate(
        cubes=_match(*(position_rows(t, geometry) if _has_positions(t, geometry) else None for t in (tensors, known))),
        values=_match(*(t.get("cube_embedding.weight") for t in (tensors, known))),
        labels=_match(*(_classifier_rows(t) for t in (tensors, known))),
    )


def _match(rows: npt.NDArray[Any] | None, known: npt.NDArray[Any] | None) -> Order | None:
    """The assignment, where both sides have such rows."""
    return match_rows(rows, known) if rows is not None and known is not None and rows.shape == known.shape else None


def _has_positions(tensors: Tensors, geometry: ClipGeometry) -> bool:
    return len(tensors.get("positional_encoding", ())) >= geometry.cubes


def _classifier_rows(tensors: Tensors) -> npt.NDArray[Any] | None:
    """Rows of the classifier, each with its bias; float ``[classes, D + 1]``."""
    if not {"head.weight", "head.bias"} <= set(tensors):
        return None
    return np.concatenate([tensors["head.weight"].T, tensors["head.bias"][:, None]], axis=1)
