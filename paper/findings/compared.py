"""The methods that are compared in action and privacy: Table 5, Figure 1."""

from __future__ import annotations

from typing import Final

from paper.experiments.records import Task, Way
from paper.experiments.rows import PLAIN, SERVICE
from paper.findings.seeds import Findings, Found
from paper.methods.table import DOWNSAMPLINGS, ENCRYPTIONS

__all__ = [
    "ADAPTIVE",
    "COMPARED",
    "LCVE",
    "PAPERS_ATTACKER",
    "PLAIN",
    "attackers",
    "best_for_owner",
    "level",
    "short_title",
    "title",
]

LCVE: Final = SERVICE
COMPARED: Final = (
    PLAIN,
    *("down-2", "down-4", "down-8", "down-32"),
    *("qi-frame", "le-frame", "lcve-frame"),
    *("qi-video", "le-video", "pixel-video", "cube-video", LCVE),
)
_TITLES: Final = {
    PLAIN: "Plain video",
    **{method.name: method.title for method in DOWNSAMPLINGS},
    **{method.name: method.title for method in ENCRYPTIONS},
}
_LEVELS: Final = {method.name: str(method.level) for method in ENCRYPTIONS}
PAPERS_ATTACKER: Final = Way.UNTRAINED
ADAPTIVE: Final = Way.FINE_TUNED


def title(method: str) -> str:
    """For tables."""
    return _TITLES[method]


def level(method: str) -> str:
    """For tables: ``frame``, ``video`` or ``-``."""
    return _LEVELS.get(method, "-")


def short_title(method: str) -> str:
    """For charts: with the level instead of what tells levels apart in tables."""
    if method not in _LEVELS:
        return title(method)
    return f"{title(method).removesuffix(' extended to videos').removesuffix(' on frames')}, {level(method)}"


def best_for_owner(findings: Findings, method: str) -> tuple[Way, Found] | None:
    """How the owner of the model does best on clips of a method, as far as was tried; None where it was not run.

    Plain clips: the plain model. LCVE: ViT Scrambling. Others: the plain model as it is, or fine-tuned.
    """
    if method in (PLAIN, LCVE):
        way = Way.TRAINED if method == PLAIN else Way.SCRAMBLED
        found = findings.get(Task.ACTION, method, way)
        return None if found is None else (way, found)
    tuned = findings.get(Task.ACTION, method, Way.FINE_TUNED)
    untrained = findings.get(Task.ACTION, method, Way.UNTRAINED)
    if tuned is None:
        return None
    if untrained is not None and untrained.mean > tuned.mean:
        return Way.UNTRAINED, untrained
    return Way.FINE_TUNED, tuned


def attackers(findings: Findings, method: str) -> dict[Way, Found | None]:
    """What each attacker finds of identities: the paper's, then the one who adapts.

    On plain clips, the paper's attacker has his model as it was trained, and who adapts trains it on.
    """
    papers = Way.TRAINED if method == PLAIN else PAPERS_ATTACKER
    ways = {PAPERS_ATTACKER: papers, ADAPTIVE: ADAPTIVE}
    return {attacker: findings.get(Task.IDENTITY, method, way) for attacker, way in ways.items()}
