"""Recover all orders and signs from an artifact and a model that it may come from.

The transform is public, so the embedding of a reference can be transformed as well. A sign does not change the absolute
value of a cosine.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.coefficients.frequencies import to_frequencies
from lcve_deploy.attacks.coefficients.planted import random_truth_with_signs, scrambled_embedding
from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted, Tensors
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, random_weights
from lcve_deploy.attacks.reference import add_drift, match_keys, match_reference
from lcve_deploy.attacks.solvers.assignment import assign, cosine_similarity
from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry

__all__ = ["match_signed_keys", "match_signed_reference", "plant_signed_keys", "plant_signed_reference"]

_EMBEDDING = "cube_embedding.weight"
_PLANTED_DRIFT = 0.5


def match_signed_reference(holdings: Holdings) -> Estimate:
    """Match positions, embedding columns up to a sign, and classifier rows with those of the reference."""
    reference = _transformed(holdings.reference or {}, holdings.geometry)
    found = match_reference(dataclasses.replace(holdings, reference=reference))
    return _with_signs(found, holdings.artifact or {}, reference)


def match_signed_keys(holdings: Holdings) -> Estimate:
    """Match two artifacts of one model: find the orders and signs of this one relative to the other."""
    return _with_signs(match_keys(holdings), holdings.artifact or {}, holdings.other or {})


def plant_signed_reference(rng: np.random.Generator) -> Planted:
    """Return a scrambled random model, and as reference the same model with half a standard deviation of noise."""
    truth, plain, geometry = random_truth_with_signs(rng), random_weights(rng), CONTROL_GEOMETRY
    holdings = Holdings(
        geometry=geometry,
        scheme=Scheme.DCT,
        artifact=scrambled_embedding(plain, truth, geometry),
        reference=plain,
    )
    return Planted(holdings=add_drift(holdings, _PLANTED_DRIFT, rng), truth=truth)


def plant_signed_keys(rng: np.random.Generator) -> Planted:
    """Return a random model under two sets of orders and signs; the truth is the one relative to the other."""
    first, second, plain = (*(random_truth_with_signs(rng) for _ in range(2)), random_weights(rng))
    geometry = CONTROL_GEOMETRY
    this, other = (scrambled_embedding(plain, orders, geometry) for orders in (first, second))
    holdings = Holdings(geometry=geometry, scheme=Scheme.DCT, artifact=this, other=other)
    return Planted(holdings=holdings, truth=first.relative_to(second))


def _transformed(tensors: Tensors, geometry: ClipGeometry) -> dict[str, npt.NDArray[Any]]:
    """Return plain tensors with an embedding that takes coefficients."""
    rows = {_EMBEDDING: to_frequencies(tensors[_EMBEDDING].T, geometry).T} if _EMBEDDING in tensors else {}
    return {**tensors, **rows}


def _with_signs(found: Estimate, tensors: Tensors, known: Tensors) -> Estimate:
    """Return an estimate with the columns of the embedding matched by absolute cosines, and their signs."""
    ours, theirs = tensors.get(_EMBEDDING), known.get(_EMBEDDING)
    if ours is None or theirs is None or ours.shape != theirs.shape:
        return dataclasses.replace(found, values=None)
    cosines = cosine_similarity(ours, theirs)
    values = assign(np.abs(cosines))
    signs = np.sign(cosines[np.arange(len(values)), values]).astype(np.int64)
    return dataclasses.replace(found, values=values, signs=signs)
