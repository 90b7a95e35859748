"""Score estimates of the orders and signs of coefficients.

Most coefficients are zero in most clips, and a picture hardly depends on them. So shares of the energy count as well as
shares of entries. The energy of the mean colours is left out: it is most of it, and needs no attack.

Estimates from smoothness are scored under the best symmetry. A mirror image changes the signs of odd frequencies, and
each colour component may be negative as a whole.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Order
from lcve_deploy.attacks.score import Recovery, Space, align_order, score_order

__all__ = ["STRONGEST", "align_coefficients", "score_coefficients"]

STRONGEST: Final = 40
"""Number of strongest coefficients that are counted separately."""

Energies = npt.NDArray[np.float64]


def score_coefficients(
    estimate: Estimate, truth: Estimate, space: Space, energies: Energies | None
) -> dict[str, Recovery]:
    """Compare K2 and signs with the truth, under the best symmetry of the space.

    Args:
        estimate: with K2, and perhaps signs.
        truth: K2 and signs.
        space: space of the coefficients.
        energies: energy of each plain coefficient in a clip; None if there is no clip.

    Returns:
        Scores of ``values`` and ``signs``. A sign counts only with the right coefficient.
    """
    aligned = align_coefficients(estimate, truth, space)
    right = aligned.order("values") == truth.order("values")
    entries = score_order(estimate.order("values"), truth.order("values"), space)
    scores = {"values": _weighted(entries, right, truth, energies, space)}
    if aligned.signs is not None and truth.signs is not None:
        signed = right & (aligned.signs == truth.signs)
        share = float(signed.mean())
        plain = Recovery(exact=share, near=share, neighbours=share)
        scores["signs"] = _weighted(plain, signed, truth, energies, space)
    return scores


def align_coefficients(estimate: Estimate, truth: Estimate, space: Space) -> Estimate:
    """Return the estimate with K2 and signs under their best symmetry, so that its picture is upright."""
    values = align_order(estimate.order("values"), truth.order("values"), space)
    if estimate.signs is None or truth.signs is None or not space.symmetric:
        return dataclasses.replace(estimate, values=values)
    right = values == truth.order("values")
    agreement = np.where(right, estimate.signs * truth.signs, 0)
    changes = [_with_components(change, agreement, values, space) for change in _mirrors(values, space)]
    best = max(changes, key=lambda change: float((change * agreement).sum()))
    return dataclasses.replace(estimate, values=values, signs=estimate.signs * best)


def _mirrors(values: Order, space: Space) -> Iterator[Order]:
    """Yield the changes of signs of each mirror image, the identity first."""
    places = space.coordinates(np.maximum(values, 0))
    for axes in itertools.product((0, 1), repeat=len(space.grid)):
        yield 1 - 2 * ((places[:, :-1] * np.array(axes)).sum(axis=1) % 2)


def _with_components(change: Order, agreement: Order, values: Order, space: Space) -> Order:
    """Return the changes of signs, with each colour component negative if that agrees better."""
    components = np.maximum(values, 0) % space.channels
    votes = np.bincount(components, change * agreement, minlength=space.channels)
    voted: Order = change * np.where(votes < 0, -1, 1)[components]
    return voted


def _weighted(
    plain: Recovery, right: npt.NDArray[Any], truth: Estimate, energies: Energies | None, space: Space
) -> Recovery:
    if energies is None:
        return plain
    held = energies[truth.order("values")]
    strongest = np.argsort(-held)[:STRONGEST]
    detail = np.where(truth.order("values") < space.channels, 0.0, held)
    total = float(detail.sum())
    return dataclasses.replace(
        plain,
        energy=float(detail[right].sum()) / total if total else plain.exact,  # without detail, entries count
        strongest=float(right[strongest].mean()),
    )
