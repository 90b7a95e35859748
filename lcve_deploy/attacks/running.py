"""Run attacks: solve the planted case, score against the truth if it is known, and compare with independent keys."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import ATTACKS, Attack
from lcve_deploy.attacks.chance import measure_chance
from lcve_deploy.attacks.coefficients.score import align_coefficients
from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.pictures import decrypted, frames_of
from lcve_deploy.attacks.score import Recovery, align_order
from lcve_deploy.attacks.scoring import ORDERS, measure_scores, score_clip, score_orders, spaces
from lcve_deploy.attacks.similarity import Similarity
from lcve_deploy.clips import Scheme
from lcve_deploy.progress import Progress, silent, step

__all__ = ["AttackResult", "Control", "State", "run_attacks"]

_SEED: Final = 0
_MAX_VALUE: Final = 255


class State(StrEnum):
    """Meaning of a result."""

    MEASURED = "measured"
    NOT_SCORED = "not scored"
    NOT_WORKING = "not working"
    NOT_RUN = "not run"


@dataclass(frozen=True, kw_only=True)
class Control:
    """Controls of an attack; scores by field of the estimate.

    Args:
        planted: score on the planted case.
        required: minimum score on the planted case.
        chance: mean score against independent keys.
        bound: what the mean score must not exceed; without scores that mean nothing or that cannot exceed it.
        unclear: why a score means nothing here, although the attack works.
    """

    planted: Mapping[str, float]
    required: Mapping[str, float]
    chance: Mapping[str, float] = field(default_factory=dict)
    bound: Mapping[str, float] = field(default_factory=dict)
    unclear: Mapping[str, str] = field(default_factory=dict)

    @property
    def solved(self) -> bool:
        """Whether the planted case was solved."""
        return all(self.planted.get(name, 0.0) >= minimum for name, minimum in self.required.items())

    @property
    def at_chance(self) -> bool:
        """Whether the scores against independent keys do not exceed chance."""
        return all(self.chance[name] <= bound for name, bound in self.bound.items())


@dataclass(frozen=True, kw_only=True, eq=False)
class AttackResult:
    """Result of one attack.

    Args:
        attack: the attack.
        state: whether it was run, works, and was scored.
        reason: why it was not run or does not work; empty otherwise.
        seconds: run time.
        estimate: what it found.
        aligned: the estimate under the symmetry that fits the truth best; None if the truth is unknown.
        recovered: scores of orders, by field of the estimate.
        similarity: similarity of the recovered clip to the true one.
        curve: level and scores by field, for each level of the attack's curve.
        control: controls; None if it was not run.
        picture: frames as the attacker would see them, uint8 RGB ``[H, W, 3]``.
    """

    attack: Attack
    state: State
    reason: str = ""
    seconds: float = 0.0
    estimate: Estimate | None = None
    aligned: Estimate | None = None
    recovered: Mapping[str, Recovery] = field(default_factory=dict)
    similarity: Similarity | None = None
    curve: Sequence[tuple[float, Mapping[str, float]]] = ()
    control: Control | None = None
    picture: npt.NDArray[np.uint8] | None = None

    @property
    def ok(self) -> bool:
        """Whether it passed its controls, or was not run."""
        return self.control is None or (self.control.solved and self.control.at_chance)

    @property
    def verdict(self) -> str:
        """The verdict of the controls in a few words; empty if it was not run."""
        if self.control is None or not self.control.solved:
            return "NOT WORKING" if self.control else ""
        if not self.control.at_chance:
            return "ABOVE CHANCE"
        unclear = bool(self.scored) and self.scored <= set(self.control.unclear)
        return "not meaningful" if unclear else "hold"

    @property
    def scored(self) -> frozenset[str]:
        """What was found and scored, of all that the attack looks for; fields of the estimate."""
        clip = {"clip"} if self.similarity and "clip" in self.attack.finds else set[str]()
        return frozenset({*self.recovered, *clip})

    @property
    def found_nothing(self) -> bool:
        """Whether it was scored and found nothing."""
        return self.state is State.MEASURED and not self.scored

    def to_json(self) -> dict[str, Any]:
        """Return all fields except estimates and picture as plain values."""
        control = dataclasses.asdict(self.control) if self.control else None
        return {
            "name": self.attack.name,
            "title": self.attack.title,
            "needs": list(self.attack.needs),
            "up_to_symmetry": self.attack.symmetric,
            "relative": self.attack.relative,
            "state": self.state.value,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "recovered": {ORDERS[name]: recovery.to_json() for name, recovery in self.recovered.items()},
            "similarity": self.similarity.to_json() if self.similarity else None,
            "curve": [{"level": level, **{ORDERS[n]: v for n, v in scores.items()}} for level, scores in self.curve],
            "axis": self.attack.curve.axis if self.attack.curve else None,
            "measure": self.attack.measure,
            "control": control,
            "verdict": self.verdict,
        }


def run_attacks(
    case: Case, *, attacks: Sequence[Attack] = ATTACKS, progress: Progress = silent
) -> tuple[AttackResult, ...]:
    """Run every attack on the scheme that the holdings allow.

    Args:
        case: what is attacked.
        attacks: attacks in order; later ones receive the estimates of earlier ones. Those on another scheme are left
            out.
        progress: receives every attack.
    """
    results: list[AttackResult] = []
    for attack in (attack for attack in attacks if case.holdings.scheme in attack.schemes):
        if reason := attack.reason_not_to_run(case.holdings):
            results.append(AttackResult(attack=attack, state=State.NOT_RUN, reason=reason))
            continue
        with step(progress, f"attack: {attack.title}"):
            holdings = dataclasses.replace(case.holdings, found=_found(case.holdings.found, results, attack))
            results.append(_run(attack, dataclasses.replace(case, holdings=holdings)))
    return tuple(results)


def _run(attack: Attack, case: Case) -> AttackResult:
    required, planted = attack.finds, _planted_scores(attack)
    started = time.perf_counter()
    estimate = attack.run(case.holdings)
    seconds = time.perf_counter() - started
    truth = case.relation if attack.relative else case.truth
    control = Control(planted=planted, required=required)
    if truth is None:
        state = State.NOT_SCORED if control.solved else State.NOT_WORKING
        return AttackResult(
            attack=attack,
            state=state,
            reason="" if control.solved else _NOT_SOLVED,
            seconds=seconds,
            estimate=estimate,
            control=control,
            picture=_picture(case, attack, estimate),
        )
    recovered = score_orders(attack, estimate, truth, case.holdings)
    aligned = _aligned(attack, estimate, truth, case.holdings)
    similarity = score_clip(attack, _with_clip(attack, aligned, case), truth, case.holdings.geometry)
    chance = measure_chance(attack, estimate, truth, case)
    control = dataclasses.replace(control, chance=chance.means, bound=chance.bounds, unclear=chance.unclear)
    return AttackResult(
        attack=attack,
        state=State.MEASURED if control.solved else State.NOT_WORKING,
        reason="" if control.solved else _NOT_SOLVED,
        seconds=seconds,
        estimate=estimate,
        aligned=aligned,
        recovered=recovered,
        similarity=similarity,
        curve=_curve(attack, case, truth),
        control=control,
        picture=_picture(case, attack, aligned),
    )


_NOT_SOLVED: Final = "it did not solve its planted case, so its failure is meaningless"


def _found(before: Estimate | None, results: Sequence[AttackResult], attack: Attack) -> Estimate:
    """Return the first estimate of each order, from before or by attacks that need no more than this one."""
    orders: dict[str, Any] = {name: getattr(before, name, None) for name in ORDERS}
    for result in results:
        if result.estimate is not None and set(result.attack.needs) <= set(attack.needs):
            orders = {name: getattr(result.estimate, name) for name in ORDERS} | {
                name: order for name, order in orders.items() if order is not None
            }
    return Estimate(**orders)


def _planted_scores(attack: Attack) -> dict[str, float]:
    planted, estimate = _planted(attack.plant, attack.run)
    return measure_scores(attack, estimate, planted.truth, planted.holdings, attack.measure)


@functools.cache
def _planted(
    plant: Callable[[np.random.Generator], Planted], run: Callable[[Holdings], Estimate]
) -> tuple[Planted, Estimate]:
    """Return the planted case and the attack's estimate; deterministic, so computed once."""
    planted = plant(np.random.default_rng(_SEED))
    return planted, run(planted.holdings)


def _with_clip(attack: Attack, estimate: Estimate, case: Case) -> Estimate:
    """Return the estimate with the clip that its coefficients show, in the scheme that has coefficients."""
    holdings = case.holdings
    shown = holdings.scheme is Scheme.DCT and "values" in attack.finds and not attack.relative
    if not shown or estimate.values is None or case.victim is None:
        return estimate
    clip = decrypted(case.victim, estimate, holdings.geometry, holdings.scheme)
    return dataclasses.replace(estimate, clip=clip)


def _aligned(attack: Attack, estimate: Estimate, truth: Estimate, holdings: Holdings) -> Estimate:
    if not attack.symmetric:
        return estimate
    known = spaces(holdings, symmetric=True, classes=1)
    aligned = dataclasses.replace(
        estimate,
        **{
            name: align_order(found, true, known[name])
            for name in ("cubes", "values")
            if (found := getattr(estimate, name)) is not None and (true := getattr(truth, name)) is not None
        },
    )
    if holdings.scheme is Scheme.LCVE:
        return aligned
    if estimate.values is None or truth.values is None:
        return dataclasses.replace(aligned, clip=_positive(estimate.clip, truth.clip))
    with_signs = align_coefficients(estimate, truth, known["values"])
    return dataclasses.replace(aligned, values=with_signs.values, signs=with_signs.signs)


def _positive(found: npt.NDArray[Any] | None, true: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """Return a clip, or its negative if that is more like the true one: anyone recognises a negative."""
    if found is None or true is None or (found - found.mean()).ravel() @ (true - true.mean()).ravel() >= 0:
        return found
    return _MAX_VALUE - found


def _curve(attack: Attack, case: Case, truth: Estimate) -> list[tuple[float, Mapping[str, float]]]:
    if attack.curve is None:
        return []
    rng, curve = np.random.default_rng(_SEED), attack.curve
    points: list[tuple[float, Mapping[str, float]]] = []
    for level in curve.levels:
        if level <= curve.maximum(case.holdings):
            holdings = curve.at(case.holdings, level, rng)
            scores = measure_scores(attack, attack.run(holdings), truth, holdings, attack.measure)
            points.append((level, scores))
    return points


def _picture(case: Case, attack: Attack, estimate: Estimate) -> npt.NDArray[np.uint8] | None:
    if attack.relative or (case.victim is None and estimate.clip is None):
        return None
    victim = case.victim if case.victim is not None else np.zeros((0, 0), np.uint8)
    holdings = case.holdings
    return frames_of(decrypted(victim, estimate, holdings.geometry, holdings.scheme), holdings.geometry)
