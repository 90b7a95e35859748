"""Recover all orders from an artifact and a model that it may come from, by assigning rows to rows.

A fine-tuned model keeps most of the embedding, the positions and often the classifier of its origin, so the reference
need not be the exported checkpoint itself.

Source: public weights undo an obfuscation of private ones, as in ArrowMatch (USENIX Security 2025).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings, Order, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_truth, random_weights, scrambled
from lcve_deploy.attacks.positions import position_rows
from lcve_deploy.attacks.relative_positions import offset_rows
from lcve_deploy.attacks.rotary import rotary_rows
from lcve_deploy.attacks.solvers.assignment import match_rows
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.shapes import RELATIVE_INDEX, ROTARY_COS, ROTARY_SIN

__all__ = ["add_drift", "match_keys", "match_reference", "plant_keys", "plant_reference"]

_PLANTED_DRIFT = 0.5


def match_reference(holdings: Holdings) -> Estimate:
    """Match positions, embedding columns and classifier rows with those of the reference."""
    return _matched(holdings.artifact, holdings.reference, holdings.geometry)


def match_keys(holdings: Holdings) -> Estimate:
    """Match two artifacts of one model: find the orders of this one relative to the other."""
    return _matched(holdings.artifact, holdings.other, holdings.geometry)


def add_drift(holdings: Holdings, drift: float, rng: np.random.Generator) -> Holdings:
    """Add noise of ``drift`` standard deviations of every tensor to the reference, to simulate further training."""
    reference = {
        name: tensor + drift * np.std(tensor) * rng.standard_normal(tensor.shape)
        for name, tensor in (holdings.reference or {}).items()
    }
    return Holdings(geometry=holdings.geometry, scheme=holdings.scheme, artifact=holdings.artifact, reference=reference)


def plant_reference(rng: np.random.Generator) -> Planted:
    """Return a scrambled random model, and as reference the same model with half a standard deviation of noise."""
    truth, plain = random_truth(rng), random_weights(rng)
    artifact = scrambled(plain, truth)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, artifact=artifact, reference=plain)
    return Planted(holdings=add_drift(holdings, _PLANTED_DRIFT, rng), truth=truth)


def plant_keys(rng: np.random.Generator) -> Planted:
    """Return a random model under two sets of orders; the truth is the relative order."""
    first, truth, plain = random_truth(rng), random_truth(rng), random_weights(rng)
    other = scrambled(plain, first)
    return Planted(
        holdings=Holdings(geometry=CONTROL_GEOMETRY, artifact=scrambled(other, truth), other=other), truth=truth
    )


def _matched(tensors: Tensors | None, known: Tensors | None, geometry: ClipGeometry) -> Estimate:
    tensors, known = tensors or {}, known or {}
    return Estimate(
        cubes=_match(*(_cube_rows(t, geometry) for t in (tensors, known))),
        values=_match(*(t.get("cube_embedding.weight") for t in (tensors, known))),
        labels=_match(*(_classifier_rows(t) for t in (tensors, known))),
    )


def _match(rows: npt.NDArray[Any] | None, known: npt.NDArray[Any] | None) -> Order | None:
    """Return the assignment; None unless both sides have rows of the same shape."""
    return match_rows(rows, known) if rows is not None and known is not None and rows.shape == known.shape else None


def _cube_rows(tensors: Tensors, geometry: ClipGeometry) -> npt.NDArray[Any] | None:
    """Return one row for each cube, of the first kind of positions that the tensors have; None if they have none."""
    if len(tensors.get("positional_encoding", ())) >= geometry.cubes:
        return position_rows(tensors, geometry)
    if {ROTARY_COS, ROTARY_SIN} <= set(tensors):
        return rotary_rows(tensors, geometry).reshape(geometry.cubes, -1)
    return offset_rows(tensors, geometry) if RELATIVE_INDEX in tensors else None


def _classifier_rows(tensors: Tensors) -> npt.NDArray[Any] | None:
    """Return the rows of the classifier with their biases, float ``[classes, D + 1]``; None if there are none."""
    if not {"head.weight", "head.bias"} <= set(tensors):
        return None
    return np.concatenate([tensors["head.weight"].T, tensors["head.bias"][:, None]], axis=1)
