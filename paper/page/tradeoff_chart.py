"""``docs/evidence/paper.svg``: actions against identities, after the paper's Figure 1, with both attackers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paper.findings.compared import (
    ADAPTIVE,
    COMPARED,
    LCVE,
    PAPERS_ATTACKER,
    PLAIN,
    attackers,
    best_for_owner,
    short_title,
)
from paper.findings.seeds import Findings, Found
from paper.page.drawing import COLOURS, GREY, drawn, family

__all__ = ["has_points", "write_tradeoff_chart"]


@dataclass(frozen=True, kw_only=True)
class _Point:
    method: str
    action: float
    identities: dict[Any, Found | None]

    @property
    def label(self) -> str:
        return "LCVE + ViT Scrambling" if self.method == LCVE else short_title(self.method)

    @property
    def places(self) -> list[float]:
        return [100 * found.mean for found in self.identities.values() if found is not None]


def has_points(findings: Findings) -> bool:
    """Whether there is anything to draw."""
    return bool(_points(findings))


def write_tradeoff_chart(findings: Findings, path: Path) -> None:
    """A line a method, in the order of the tables: actions on the left, identities for both attackers on the right."""
    points = _points(findings)
    with drawn(path, (9, 4.6)) as figure:
        actions, identities = figure.subplots(1, 2, sharey=True)
        for place, point in enumerate(points):
            _draw(actions, identities, place, point)
        _chances(actions, identities, findings)
        actions.set_yticks(range(len(points)), [point.label for point in points])
        actions.set_ylim(len(points) - 0.5, -0.5)
        for panel, text in (
            (actions, "action (%): the owner's best way; right is useful"),
            (identities, "identity (%): what an attacker finds; left is private"),
        ):
            panel.set_xlim(0, 103)
            panel.set_xlabel(text)
            panel.grid(axis="y", linewidth=0.3)
        _legend(identities)


def _points(findings: Findings) -> list[_Point]:
    points = []
    for method in COMPARED:
        best, found = best_for_owner(findings, method), attackers(findings, method)
        if best is not None and any(found.values()):
            points.append(_Point(method=method, action=100 * best[1].mean, identities=found))
    return points


def _draw(actions: Any, identities: Any, place: int, point: _Point) -> None:
    colour = COLOURS[family(point.method)]
    actions.plot(point.action, place, "D", color=colour, markersize=7)
    identities.plot(point.places, [place] * len(point.places), color=colour, linewidth=3, alpha=0.4)
    for way, marker, fill in ((PAPERS_ATTACKER, "o", "white"), (ADAPTIVE, "s", colour)):
        found = point.identities[way]
        if found is not None:
            identities.plot(100 * found.mean, place, marker, color=colour, markerfacecolor=fill, markersize=7)


def _chances(actions: Any, identities: Any, findings: Findings) -> None:
    """Dashed for actions and for who adapts, dotted for the paper's attacker, who may see fewer clips."""
    best, found = best_for_owner(findings, PLAIN), attackers(findings, LCVE)
    lines = (
        (actions, None if best is None else best[1], "--"),
        (identities, found[ADAPTIVE], "--"),
        (identities, found[PAPERS_ATTACKER], ":"),
    )
    for panel, row, line in lines:
        if row is not None:
            panel.axvline(100 * row.chance, color=GREY, linewidth=0.8, linestyle=line)


def _legend(panel: Any) -> None:
    panel.plot([], [], "o", color=GREY, markerfacecolor="white", label="the paper's attacker: never saw changed clips")
    panel.plot([], [], "s", color=GREY, label="attacker who adapts: fine-tuned on changed clips")
    panel.plot([], [], "--", color=GREY, linewidth=0.8, label="chance (dotted: for the paper's attacker)")
    panel.figure.legend(frameon=False, loc="outside lower center", ncols=2)
