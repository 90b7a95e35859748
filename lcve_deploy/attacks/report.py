"""What all attacks say together: who opens what, and with what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Cubes, Estimate
from lcve_deploy.attacks.pictures import frames_of, put_in_order
from lcve_deploy.attacks.running import ORDERS, AttackResult, Case, State, spaces
from lcve_deploy.attacks.score import chance_level

__all__ = ["ATTACKERS", "AuditReport", "Verdict", "judge"]

_OPEN: Final = 0.99
_PARTLY: Final = 0.05
"""Share of an order from which clips count as read in part, where chance gives less."""

ATTACKERS: Final[Mapping[str, frozenset[str]]] = {
    "the operator, who has the artifact": frozenset({"artifact"}),
    "the operator, with a reference checkpoint": frozenset({"artifact", "reference"}),
    "the operator, with encrypted clips": frozenset({"artifact", "ciphertexts"}),
    "a thief who has only encrypted clips": frozenset({"ciphertexts"}),
    "anyone with plain clips and their encryption": frozenset({"known"}),
    "anyone who can have chosen clips encrypted": frozenset({"oracle"}),
}
"""Who attacks, and the fields of ``Holdings`` that this attacker has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What one attacker gets from all attacks together.

    Args:
        attacker: a name of ``ATTACKERS``.
        recovered: share of each order that the best attack has right, by field of the estimate.
        telling: the orders of which more is found than chance would give.
        up_to_symmetry: whether any of these counts up to the symmetries of the grid.
        picture: a clip as this attacker sees it, RGB ``[H, W, 3]``; None if there is none to show.
    """

    attacker: str
    recovered: Mapping[str, float]
    telling: tuple[str, ...]
    up_to_symmetry: bool
    picture: npt.NDArray[np.uint8] | None

    @property
    def opens(self) -> bool:
        """Whether this attacker reads every clip."""
        return all(self.recovered.get(name, 0.0) >= _OPEN for name in ("cubes", "values"))

    @property
    def opens_partly(self) -> bool:
        """Whether this attacker reads something of the clips."""
        return any(name in self.telling for name in ("cubes", "values"))

    @property
    def state(self) -> str:
        """The verdict in a few words; never that something is safe."""
        if self.opens:
            return "EVERY CLIP IS READABLE"
        return "CLIPS ARE READ IN PART" if self.opens_partly else "not opened by these attacks"

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        shares = ", ".join(f"{ORDERS[name]} {share:.1%}" for name, share in self.recovered.items())
        symmetry = ", up to mirror images and the like" if self.up_to_symmetry else ""
        full = [ORDERS[name] for name in ("cubes", "values") if self.recovered.get(name) == 1.0]
        fully = f"{' and '.join(full)} recovered in full; " if full else ""
        return f"{self.state}: {fully}{shares}{symmetry}"

    def to_json(self) -> dict[str, Any]:
        """All but the picture as plain values."""
        return {
            "attacker": self.attacker,
            "opens": self.opens,
            "opens_partly": self.opens_partly,
            "recovered": {ORDERS[name]: share for name, share in self.recovered.items()},
            "up_to_symmetry": self.up_to_symmetry,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AuditReport:
    """All results of one audit.

    Args:
        subject: facts about what was attacked, by name; all public.
        results: of every attack, those that could not be run included.
        verdicts: by attacker; empty if nothing was scored.
        cipher_picture: the shown clip as it is encrypted, RGB ``[H, W, 3]``.
        plain_picture: the same clip decrypted with the key.
    """

    subject: Mapping[str, str]
    results: tuple[AttackResult, ...]
    verdicts: tuple[Verdict, ...]
    cipher_picture: npt.NDArray[np.uint8] | None = None
    plain_picture: npt.NDArray[np.uint8] | None = None

    @property
    def ok(self) -> bool:
        """Whether the controls of all attacks that were run hold."""
        return all(result.ok for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """All but pictures as plain values."""
        return {
            "subject": dict(self.subject),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "attacks": [result.to_json() for result in self.results],
            "controls_hold": self.ok,
        }


def judge(case: Case, results: Sequence[AttackResult], subject: Mapping[str, str]) -> AuditReport:
    """Put results together, the worst verdict first."""
    verdicts = [
        _verdict(attacker, holds, case, results)
        for attacker, holds in ATTACKERS.items()
        if all(getattr(case.holdings, name) is not None for name in holds)
    ]
    geometry, truth = case.holdings.geometry, case.truth
    shown = None if case.victim is None else frames_of(case.victim, geometry)
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
    """The best of each order; a real attacker sees which of the pictures is one."""
    best: dict[str, AttackResult] = {}
    for result in results:
        if result.state is not State.MEASURED or result.attack.relative or not set(result.attack.needs) <= holds:
            continue
        for name, recovery in result.recovered.items():
            if name not in best or recovery.exact > best[name].recovered[name].exact:
                best[name] = result
    estimate = Estimate(**{name: getattr(result.aligned, name) for name, result in best.items()})
    picture = None if case.victim is None else frames_of(put_in_order(case.victim, estimate), case.holdings.geometry)
    return Verdict(
        attacker=attacker,
        recovered={name: best[name].recovered[name].exact for name in ORDERS if name in best},
        telling=tuple(name for name, result in best.items() if _is_telling(name, result, case)),
        up_to_symmetry=any(result.attack.symmetric for result in best.values()),
        picture=picture,
    )


def _is_telling(name: str, result: AttackResult, case: Case) -> bool:
    classes = 1 if case.truth is None or case.truth.labels is None else len(case.truth.labels)
    space = spaces(case.holdings.geometry, result.attack, classes)[name]
    return result.recovered[name].exact > max(_PARTLY, chance_level("exact", space))


def _pixels(clip: npt.NDArray[Any]) -> Cubes:
    pixels: Cubes = np.round(clip).astype(np.uint8)
    return pixels
