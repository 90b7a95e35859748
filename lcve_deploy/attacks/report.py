"""Combine the results of all attacks: what each kind of attacker recovers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.chance import few_orders, is_above_chance
from lcve_deploy.attacks.holdings import Cubes, Estimate
from lcve_deploy.attacks.pictures import as_pixels, decrypted, frames_of
from lcve_deploy.attacks.running import AttackResult, State
from lcve_deploy.attacks.score import Space
from lcve_deploy.attacks.scoring import ORDERS, spaces
from lcve_deploy.clips import Scheme

__all__ = ["ATTACKERS", "AuditReport", "Verdict", "judge"]

_MIN_OPEN_SHARE: Final = 0.99

ATTACKERS: Final[Mapping[str, frozenset[str]]] = {
    "the operator, who has the artifact": frozenset({"artifact"}),
    "the operator, with a reference checkpoint": frozenset({"artifact", "reference"}),
    "the operator, with encrypted clips": frozenset({"artifact", "ciphertexts"}),
    "anyone who sees the logits of clips of known classes": frozenset({"classified"}),
    "a thief who has only encrypted clips": frozenset({"ciphertexts"}),
    "anyone with plain clips and their encryption": frozenset({"known"}),
    "anyone who can have chosen clips encrypted": frozenset({"oracle"}),
}
"""Kinds of attackers, and the fields of ``Holdings`` that each has."""

_NEEDED: Final[Mapping[Scheme, tuple[str, ...]]] = {
    Scheme.LCVE: ("cubes", "values"),
    Scheme.DCT: ("cubes", "values", "signs"),
}
"""What decrypts a clip; fields of an estimate."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What one kind of attacker recovers with all attacks.

    Args:
        attacker: kind of attacker.
        recovered: share of each order that the best attack recovers, 0..1; by order (``cubes``, ``values``,
            ``labels``, ``signs``). Of coefficients, it is the share of the energy.
        above_chance: orders of which a guess hardly ever has so many correct entries.
        up_to_symmetry: whether any of the shares counts up to the symmetries of the grid.
        picture: a clip as this attacker sees it, uint8 RGB ``[H, W, 3]``; None if there is none.
        needed: what decrypts a clip; fields of an estimate.
        tried: needed orders of which there are so few that the attacker can try all.
        unclear: why the share of an order means nothing here, by order; also of those that can be tried.
    """

    attacker: str
    recovered: Mapping[str, float]
    above_chance: tuple[str, ...]
    up_to_symmetry: bool
    picture: npt.NDArray[np.uint8] | None
    needed: tuple[str, ...] = _NEEDED[Scheme.LCVE]
    tried: frozenset[str] = frozenset()
    unclear: Mapping[str, str] = field(default_factory=dict)

    @property
    def opens(self) -> bool:
        """Whether this attacker can read every clip. An order hides nothing if all can be tried."""
        known = {name for name in self.above_chance if self.recovered[name] >= _MIN_OPEN_SHARE}
        return known | self.tried >= set(self.needed)

    @property
    def opens_partly(self) -> bool:
        """Whether this attacker can read clips in part."""
        return any(name in self.above_chance for name in self.needed)

    @property
    def state(self) -> str:
        """The verdict in a few words; never states that something is safe."""
        if self.opens:
            return "EVERY CLIP IS READABLE"
        return "CLIPS ARE READ IN PART" if self.opens_partly else "not opened by these attacks"

    @property
    def sentence(self) -> str:
        """The verdict with all shares that mean something, in one sentence."""
        full = [ORDERS[n] for n in self.needed if self.recovered.get(n) == 1.0 and n not in self.unclear]
        listed = " and ".join([", ".join(full[:-1]), full[-1]] if len(full) > 1 else full)
        clear = {ORDERS[name]: share for name, share in self.recovered.items() if name not in self.unclear}
        symmetry = ", up to mirror images and other symmetries" if self.up_to_symmetry else ""
        shares = ", ".join(f"{order} {share:.1%}" for order, share in clear.items()) + symmetry
        parts = [
            f"{listed} recovered in full" if full else "",
            "all orders can be tried" if self.tried >= set(self.needed) else "",
            shares if self.recovered else "nothing found",
            _not_meaningful(self.unclear) if self.unclear else "",
        ]
        return f"{self.state}: {'; '.join(part for part in parts if part)}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields except the picture as plain values."""
        return {
            "attacker": self.attacker,
            "opens": self.opens,
            "opens_partly": self.opens_partly,
            "recovered": {ORDERS[name]: share for name, share in self.recovered.items()},
            "up_to_symmetry": self.up_to_symmetry,
            "not_meaningful": {ORDERS[name]: reason for name, reason in self.unclear.items()},
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditReport:
    """Result of ``audit``.

    Args:
        subject: public facts on the artifact, by name.
        assumed: what was assumed of the attackers and for the scores, by name.
        results: results of all attacks, including those that were not run.
        verdicts: one for each kind of attacker, the worst first; empty if nothing was scored.
        cipher_picture: frames of an encrypted clip, uint8 RGB ``[H, W, 3]``; None if there is none.
        plain_picture: the same frames, decrypted; None without the key.
    """

    subject: Mapping[str, str]
    results: tuple[AttackResult, ...]
    verdicts: tuple[Verdict, ...]
    assumed: Mapping[str, str] = field(default_factory=dict)
    cipher_picture: npt.NDArray[np.uint8] | None = None
    plain_picture: npt.NDArray[np.uint8] | None = None

    @property
    def orders(self) -> Mapping[str, str]:
        """Names of the orders that attacks on this scheme look for, by field of an estimate."""
        return {n: order for n, order in ORDERS.items() if any(n in result.attack.finds for result in self.results)}

    @property
    def not_meaningful(self) -> tuple[str, ...]:
        """Scores that mean nothing here, with their reasons; they do not count as controls."""
        reasons = (
            _because(name, reason, of=result.attack.title if name == "clip" else "")
            for result in self.results
            if result.control
            for name, reason in result.control.unclear.items()
        )
        return tuple(dict.fromkeys(reasons))

    @property
    def ok(self) -> bool:
        """Whether all attacks that were run passed their controls."""
        return all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return all fields except pictures as plain values."""
        return {
            "subject": dict(self.subject),
            "assumed": dict(self.assumed),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "attacks": [result.to_json() for result in self.results],
            "controls_hold": self.ok,
        }


def judge(
    case: Case, results: Sequence[AttackResult], subject: Mapping[str, str], assumed: Mapping[str, str] | None = None
) -> AuditReport:
    """Combine results to a report, the worst verdict first."""
    verdicts = [
        _verdict(attacker, measured, case)
        for attacker, holds in ATTACKERS.items()
        if all(getattr(case.holdings, name) is not None for name in holds) and (measured := _measured(holds, results))
    ]
    geometry, truth = case.holdings.geometry, case.truth
    shown = None if case.victim is None else frames_of(as_pixels(case.victim, case.holdings.scheme), geometry)
    return AuditReport(
        subject=subject,
        results=tuple(results),
        verdicts=tuple(sorted(verdicts, key=_harm, reverse=True)),
        assumed=assumed or {},
        cipher_picture=shown,
        plain_picture=None if truth is None or truth.clip is None else frames_of(_pixels(truth.clip), geometry),
    )


def _harm(verdict: Verdict) -> tuple[bool, bool, bool, float]:
    return verdict.opens, verdict.opens_partly, not verdict.up_to_symmetry, sum(verdict.recovered.values())


def _measured(holds: frozenset[str], results: Sequence[AttackResult]) -> list[AttackResult]:
    """Return the results of the attacks that need no more than this."""
    return [
        result
        for result in results
        if result.state is State.MEASURED and not result.attack.relative and set(result.attack.needs) <= holds
    ]


def _verdict(attacker: str, measured: Sequence[AttackResult], case: Case) -> Verdict:
    """Return the best result for each order; a real attacker can recognise it in the pictures."""
    best: dict[str, AttackResult] = {}
    for result in measured:
        for name in result.recovered:
            if name not in best or _worth(name, result, case) > _worth(name, best[name], case):
                best[name] = result
    estimate = Estimate(**{name: getattr(result.aligned, name) for name, result in best.items()})
    holdings, picture = case.holdings, None
    if case.victim is not None:
        picture = frames_of(decrypted(case.victim, estimate, holdings.geometry, holdings.scheme), holdings.geometry)
    needed = _NEEDED[holdings.scheme]
    tried = {name: reason for name in needed if (reason := few_orders(name, _space(name, best.get(name), case)))}
    unclear = {
        name: result.control.unclear[name]
        for name, result in best.items()
        if result.control and name in result.control.unclear
    }
    return Verdict(
        attacker=attacker,
        recovered={name: best[name].recovered[name].share for name in ORDERS if name in best},
        above_chance=tuple(name for name, result in best.items() if _worth(name, result, case)[0]),
        up_to_symmetry=any(result.attack.symmetric for name, result in best.items() if name not in unclear),
        picture=picture,
        needed=needed,
        tried=frozenset(tried),
        unclear=tried | unclear,
    )


def _worth(name: str, result: AttackResult, case: Case) -> tuple[bool, float]:
    """Return whether a guess hardly ever has so many correct entries of an order, and their share."""
    recovery = result.recovered[name]
    return is_above_chance(recovery, _space(name, result, case)), recovery.share


def _space(name: str, result: AttackResult | None, case: Case) -> Space:
    """Return the space of an order, with the symmetries that its score allows."""
    classes = 1 if case.truth is None or case.truth.labels is None else len(case.truth.labels)
    return spaces(case.holdings, symmetric=result is not None and result.attack.symmetric, classes=classes)[name]


def _not_meaningful(reasons: Mapping[str, str]) -> str:
    """Return reasons, by order, in a sentence."""
    return f"not meaningful here: {'; '.join(_because(name, reason) for name, reason in reasons.items())}"


def _because(name: str, reason: str, *, of: str = "") -> str:
    what = f"the clip of '{of}'" if of else ORDERS[name]
    return f"{what}, because {reason}"


def _pixels(clip: npt.NDArray[Any]) -> Cubes:
    pixels: Cubes = np.round(clip).astype(np.uint8)
    return pixels
