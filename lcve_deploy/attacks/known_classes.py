"""Recover K3 from clips of known classes: the position with the highest logits of a class is that class.

The operator sees every logit. If they know what some clips show, for example because they filmed them, the labels are
no longer hidden.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.solvers.assignment import assign

__all__ = ["match_classes", "plant_classes"]

_CLASSES: Final = 40
_CLIPS_OF_A_CLASS: Final = 3
_MARGIN: Final = 4.0
"""How far the logit of the right class of a planted case is above the others, in their standard deviations."""


def match_classes(holdings: Holdings) -> Estimate:
    """Match positions with known classes by their mean logits; the entries of all other positions are -1."""
    if holdings.classified is None:
        return Estimate()
    classes, logits = holdings.classified
    known = np.unique(classes)
    if len(known) > 1:  # what a position gives for all clips says nothing
        deviation = logits.std(axis=0)
        logits = (logits - logits.mean(axis=0)) / np.where(deviation > 0, deviation, 1)
    means = np.stack([logits[classes == label].mean(axis=0) for label in known])
    labels = np.full(logits.shape[1], -1, dtype=np.int64)
    labels[assign(means)] = known
    return Estimate(labels=labels)


def plant_classes(rng: np.random.Generator) -> Planted:
    """Return random logits in which the right class stands out."""
    truth = rng.permutation(_CLASSES)
    classes = np.tile(np.arange(_CLASSES), _CLIPS_OF_A_CLASS)
    logits = rng.standard_normal((len(classes), _CLASSES)) + _MARGIN * (classes[:, None] == truth)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, classified=(classes, logits))
    return Planted(holdings=holdings, truth=Estimate(labels=truth))
