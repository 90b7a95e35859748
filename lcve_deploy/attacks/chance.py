"""What chance reaches: scores against independent keys, and scores that cannot be distinguished from a guess.

Chance depends on the clip and on its geometry. An order of few entries is often guessed. A clip of little contrast
looks alike under any key, and so like anything that an attack shows. A known clip whose cubes are equal distinguishes
none of them. Such scores mean nothing: they are listed with the reason, and no control fails because of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import Attack
from lcve_deploy.attacks.holdings import Estimate
from lcve_deploy.attacks.pictures import decrypted, put_in_order
from lcve_deploy.attacks.score import Recovery, Space, chance_level, guess_probability
from lcve_deploy.attacks.scoring import measure_scores, score_clip, spaces
from lcve_deploy.attacks.similarity import Similarity, chance_similarity

__all__ = ["COMPARED_KEYS", "MAX_GUESS", "Chance", "few_orders", "is_above_chance", "measure_chance"]

MAX_GUESS: Final = 0.01
"""Maximum probability that a guess scores as much as something that counts as recovered."""
_MIN_SHARE: Final = 0.05
"""Minimum share that counts as recovered, however improbable a guess of it is."""
COMPARED_KEYS: Final = 4
"""Number of independent keys that clips are compared with, which takes longer than orders."""
_ENTRIES: Final = {
    "cubes": ("cube", "cubes"),
    "values": ("value of a cube", "values of a cube"),
    "labels": ("class", "classes"),
    "signs": ("coefficient", "coefficients"),
}
"""What an order has one entry for: one, and several."""


@dataclass(frozen=True, kw_only=True)
class Chance:
    """What chance reaches; all by field of an estimate.

    Args:
        means: mean scores of the estimate against independent keys.
        bounds: what the means must not exceed; without those of scores that mean nothing, or that cannot be exceeded.
        unclear: why a score means nothing here.
    """

    means: Mapping[str, float] = field(default_factory=dict)
    bounds: Mapping[str, float] = field(default_factory=dict)
    unclear: Mapping[str, str] = field(default_factory=dict)


def measure_chance(attack: Attack, estimate: Estimate, truth: Estimate, case: Case) -> Chance:
    """Score an estimate against independent keys.

    Args:
        attack: the attack.
        estimate: what it found.
        truth: what it looks for.
        case: what is attacked.
    """
    if "clip" in attack.finds:
        return _of_clip(attack, estimate, truth, case)
    measure = "exact" if attack.measure == "energy" else attack.measure  # a few entries have most of the energy
    scores = [measure_scores(attack, estimate, other, case.holdings, measure) for other in case.independent]
    means = {name: math.fsum(score[name] for score in scores) / len(scores) for name in (scores[0] if scores else ())}
    classes = next((len(orders.labels) for orders in (truth, *case.independent) if orders.labels is not None), 1)
    known = spaces(case.holdings, symmetric=attack.symmetric, classes=classes)
    found = [name for name in attack.finds if getattr(estimate, name) is not None and getattr(truth, name) is not None]
    blind = attack.blind(case.holdings)
    unclear = {name: reason for name in found if (reason := few_orders(name, known[name]) or blind.get(name, ""))}
    bounds = {name: chance_level(measure, known[name]) for name in means if name not in unclear}
    return Chance(means=means, bounds={name: bound for name, bound in bounds.items() if bound < 1}, unclear=unclear)


def few_orders(name: str, space: Space) -> str:
    """Return how few orders there are, if a guess is too often correct; otherwise nothing.

    Args:
        name: field of an estimate.
        space: space of the order's entries, with the symmetries that its score allows.
    """
    if guess_probability(space, space.size) <= MAX_GUESS:
        return ""
    orders, symmetries, one = math.factorial(space.size), space.symmetry_count, space.size == 1
    up_to = f", {max(1, orders // symmetries)} up to symmetries" if symmetries > 1 else ""
    entries = f"{space.size} {_ENTRIES[name][not one]} {'has' if one else 'have'}"
    return f"{entries} only {orders} order{'' if orders == 1 else 's'}{up_to}"


def is_above_chance(recovery: Recovery, space: Space) -> bool:
    """Return whether a share is worth mentioning, and a guess hardly ever has as many correct entries.

    Of coefficients, it is enough if a guess hardly ever has correct ones of as much energy.
    """
    guess = guess_probability(space, round(recovery.exact * space.size))
    if recovery.energy:
        guess = min(guess, space.symmetry_count / (space.size * recovery.energy))
    return recovery.share > _MIN_SHARE and guess <= MAX_GUESS


def _of_clip(attack: Attack, estimate: Estimate, truth: Estimate, case: Case) -> Chance:
    holdings, victim, independent = case.holdings, case.victim, case.independent[:COMPARED_KEYS]
    similarity = score_clip(attack, estimate, truth, holdings.geometry)
    if victim is None or similarity is None or not independent:
        return Chance()
    if reason := _no_score(attack.measure, similarity):
        return Chance(unclear={"clip": reason})
    wrong = [Estimate(clip=decrypted(victim, each, holdings.geometry, holdings.scheme)) for each in independent]
    scores = [score for other in wrong if (score := _score(attack, estimate, other, case)) is not None]
    mean = math.fsum(scores) / len(scores) if scores else 0.0
    bound = chance_similarity(spaces(holdings, symmetric=attack.symmetric, classes=1)["cubes"])
    judged = Chance(means={"clip": mean}, bounds={"clip": bound})
    if bound >= 1:
        reason = f"with {holdings.geometry.cubes} cubes, clips of other keys are as similar as {mean:.2f} on average"
        return Chance(means=judged.means, unclear={"clip": reason})
    if mean <= bound or (alike := max(_controls(attack, estimate, truth, case, wrong), default=0.0)) <= bound:
        return judged
    if getattr(similarity, attack.measure) > alike + bound:
        return Chance(means=judged.means)
    reason = f"it looks alike under other keys, which reach {mean:.2f} on average"
    return Chance(means=judged.means, unclear={"clip": reason})


def _no_score(measure: str, similarity: Similarity) -> str:
    """Return why a clip has no score by a measure; nothing if it has one."""
    if getattr(similarity, measure) is not None:
        return ""
    return "all cubes have the same mean" if measure == "light" else "SSIM needs pictures of 3 by 3 pixels or more"


def _controls(
    attack: Attack, estimate: Estimate, truth: Estimate, case: Case, wrong: Sequence[Estimate]
) -> Iterator[float]:
    """Yield how similar clips are that have only their values in common.

    These are the true clip and, with all its values shuffled, the found one, each against the clips of other keys.
    """
    if estimate.clip is None:
        return
    for orders, other in zip(case.independent, wrong, strict=False):
        shuffled = put_in_order(estimate.clip, Estimate(cubes=orders.cubes, values=orders.values))
        for clip in (truth.clip, shuffled):
            score = _score(attack, dataclasses.replace(estimate, clip=clip), other, case)
            if score is not None:
                yield score


def _score(attack: Attack, estimate: Estimate, truth: Estimate, case: Case) -> float | None:
    return measure_scores(attack, estimate, truth, case.holdings, attack.measure).get("clip")
