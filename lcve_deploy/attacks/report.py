"""Combine the results of all attacks: what each kind of attacker recovers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate
from lcve_deploy.attacks.pictures import as_pixels, decrypted, frames_of
from lcve_deploy.attacks.running import ORDERS, AttackResult, Case, State, spaces
from lcve_deploy.attacks.score import chance_level
from lcve_deploy.clips import Scheme

__all__ = ["ATTACKERS", "AuditReport", "Verdict", "judge"]

_MIN_OPEN_SHARE: Final = 0.99
_MIN_PARTIAL_SHARE: Final = 0.05
"""Minimum share of an order for which clips count as read in part, unless chance reaches more."""

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
        above_chance: orders whose share exceeds chance.
        up_to_symmetry: whether any of the shares counts up to the symmetries of the grid.
        picture: a clip as this attacker sees it, uint8 RGB ``[H, W, 3]``; None if there is none.
        needed: what decrypts a clip; fields of an estimate.
    """

    attacker: str
    recovered: Mapping[str, float]
    above_chance: tuple[str, ...]
    up_to_symmetry: bool
    picture: npt.NDArray[np.uint8] | None
    needed: tuple[str, ...] = _NEEDED[Scheme.LCVE]

    @property
    def opens(self) -> bool:
        """Whether this attacker can read every clip."""
        return all(self.recovered.get(name, 0.0) >= _MIN_OPEN_SHARE for name in self.needed)

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
        """The verdict with all shares, in one sentence."""
        shares = ", ".join(f"{ORDERS[name]} {share:.1%}" for name, share in self.recovered.items())
        symmetry = ", up to mirror images and other symmetries" if self.up_to_symmetry else ""
        full = [ORDERS[name] for name in self.needed if self.recovered.get(name) == 1.0]
        listed = " and ".join([", ".join(full[:-1]), full[-1]] if len(full) > 1 else full)
        fully = f"{listed} recovered in full; " if full else ""
        return f"{self.state}: {fully}{shares}{symmetry}"

    def to_json(self) -> dict[str, Any]:
        """Return all fields except the picture as plain values."""
        return {
            "attacker": self.attacker,
            "opens": self.opens,
            "opens_partly": self.opens_partly,
            "recovered": {ORDERS[name]: share for name, share in self.recovered.items()},
            "up_to_symmetry": self.up_to_symmetry,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditReport:
    """Result of ``audit``.

    Args:
        subject: public facts on the artifact, by name.
        results: results of all attacks, including those that were not run.
        verdicts: one for each kind of attacker, the worst first; empty if nothing was scored.
        cipher_picture: frames of an encrypted clip, uint8 RGB ``[H, W, 3]``; None if there is none.
        plain_picture: the same frames, decrypted; None without the key.
    """

    subject: Mapping[str, str]
    results: tuple[AttackResult, ...]
    verdicts: tuple[Verdict, ...]
    cipher_picture: npt.NDArray[np.uint8] | None = None
    plain_picture: npt.NDArray[np.uint8] | None = None

    @property
    def orders(self) -> Mapping[str, str]:
        """Names of the orders that attacks on this scheme look for, by field of an estimate."""
        return {n: order for n, order in ORDERS.items() if any(n in result.attack.finds for result in self.results)}

    @property
    def ok(self) -> bool:
        """Whether all attacks that were run passed their controls."""
        return all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Return all fields except pictures as plain values."""
        return {
            "subject": dict(self.subject),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "attacks": [result.to_json() for result in self.results],
            "controls_hold": self.ok,
        }


def judge(case: Case, results: Sequence[AttackResult], subject: Mapping[str, str]) -> AuditReport:
    """Combine results to a report, the worst verdict first."""
    verdicts = [
        _verdict(attacker, holds, case, results)
        for attacker, holds in ATTACKERS.items()
        if all(getattr(case.holdings, name) is not None for name in holds)
    ]
    geometry, truth = case.holdings.geometry, case.truth
    shown = None if case.victim is None else frames_of(as_pixels(case.victim, case.holdings.scheme), geometry)
    return AuditReport(
        subject=subject,
        results=tuple(results),
        verdicts=tuple(sorted((v for v in verdicts if v.recovered), key=_harm, reverse=True)),
        cipher_picture=shown,
        plain_picture=None if truth is None or truth.clip is None else frames_of(_pixels(truth.clip), geometry),
    )


def _harm(verdict: Verdict) -> tuple[bool, bool, float]:
    return verdict.opens, not verdict.up_to_symmetry, sum(verdict.recovered.values())


def _verdict(attacker: str, holds: frozenset[str], case: Case, results: Sequence[AttackResult]) -> Verdict:
    """Return the best result for each order; a real attacker can recognise it in the pictures."""
    best: dict[str, AttackResult] = {}
    for result in results:
        if result.state is not State.MEASURED or result.attack.relative or not set(result.attack.needs) <= holds:
            continue
        for name, recovery in result.recovered.items():
            if name not in best or recovery.share > best[name].recovered[name].share:
                best[name] = result
    estimate = Estimate(**{name: getattr(result.aligned, name) for name, result in best.items()})
    holdings, picture = case.holdings, None
    if case.victim is not None:
        picture = frames_of(decrypted(case.victim, estimate, holdings.geometry, holdings.scheme), holdings.geometry)
    return Verdict(
        attacker=attacker,
        recovered={name: best[name].recovered[name].share for name in ORDERS if name in best},
        above_chance=tuple(name for name, result in best.items() if _is_above_chance(name, result, case)),
        up_to_symmetry=any(result.attack.symmetric for result in best.values()),
        picture=picture,
        needed=_NEEDED[holdings.scheme],
    )


def _is_above_chance(name: str, result: AttackResult, case: Case) -> bool:
    classes = 1 if case.truth is None or case.truth.labels is None else len(case.truth.labels)
    space = spaces(case.holdings, result.attack, classes)[name]
    return result.recovered[name].share > max(_MIN_PARTIAL_SHARE, chance_level("exact", space))


def _pixels(clip: npt.NDArray[Any]) -> Cubes:
    pixels: Cubes = np.round(clip).astype(np.uint8)
    return pixels
