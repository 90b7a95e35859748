"""``docs/paper.svg``: actions against identities, after the paper's Figure 1, with both attackers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paper.compared import ADAPTIVE, COMPARED, LCVE, PAPERS_ATTACKER, PLAIN, attackers, best_for_owner, short_title
from paper.drawing import COLOURS, GREY, drawn, family
from paper.findings import Findings, Found

__all__ = ["has_points", "write_tradeoff_chart"]

_APART: Final = 0.047
"""Least distance of two labels, as a share of the panel's height."""
_LABELS: Final = 1.03
"""Where labels stand, as a share of the panel's width."""
_LEADER: Final = {"arrowstyle": "-", "linewidth": 0.8, "relpos": (0, 0.5), "shrinkA": 2, "shrinkB": 5, "zorder": 1}
"""From a label's left edge to its marker, under other markers."""


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
    """Two markers a method; a label each at the right edge."""
    with drawn(path, (9, 5.6)) as figure:
        panel = figure.subplots()
        points = sorted(_points(findings), key=lambda point: point.action)
        for point in points:
            _draw(panel, point)
        _chances(panel, findings)
        panel.set_xlim(0, 103)
        panel.set_ylim(0, 103)
        panel.set_xlabel("identity (%): what an attacker finds; left is private")
        panel.set_ylabel("action (%): the owner's best way; up is useful")
        _labels(panel, points)
        _legend(panel)


def _points(findings: Findings) -> list[_Point]:
    points = []
    for method in COMPARED:
        best, found = best_for_owner(findings, method), attackers(findings, method)
        if best is not None and any(found.values()):
            points.append(_Point(method=method, action=100 * best[1].mean, identities=found))
    return points


def _draw(panel: Any, point: _Point) -> None:
    colour = COLOURS[family(point.method)]
    panel.plot(
        point.places, [point.action] * len(point.places), color=colour, linewidth=3, alpha=0.4, solid_capstyle="butt"
    )
    for way, marker, fill in ((PAPERS_ATTACKER, "o", "white"), (ADAPTIVE, "s", colour)):
        found = point.identities[way]
        if found is not None:
            panel.plot(
                100 * found.mean, point.action, marker, color=colour, markerfacecolor=fill, markersize=7, clip_on=False
            )


def _chances(panel: Any, findings: Findings) -> None:
    """Dashed for actions and for who adapts, dotted for the paper's attacker, who may see fewer clips."""
    action = best_for_owner(findings, PLAIN)
    if action is not None:
        panel.axhline(100 * action[1].chance, color=GREY, linewidth=0.8, linestyle="--")
    identities = attackers(findings, LCVE)
    for way, line in ((PAPERS_ATTACKER, ":"), (ADAPTIVE, "--")):
        found = identities[way]
        if found is not None:
            panel.axvline(100 * found.chance, color=GREY, linewidth=0.8, linestyle=line)


def _labels(panel: Any, points: list[_Point]) -> None:
    """Labels in a column, apart from one another, each with a line to its right-most marker."""
    bottom, top = panel.get_ylim()
    wanted = [(point.action - bottom) / (top - bottom) for point in points]
    for point, height in zip(points, _apart(wanted), strict=True):
        colour = COLOURS[family(point.method)]
        panel.annotate(
            point.label,
            xy=(max(point.places), point.action),
            xytext=(_LABELS, height),
            textcoords="axes fraction",
            va="center",
            weight="bold" if point.method == LCVE else "normal",
            annotation_clip=False,
            arrowprops={**_LEADER, "color": colour},
        )


def _apart(wanted: list[float]) -> list[float]:
    """Rising heights, each as near to the wanted one as the distance lets it; the top one at most at 1."""
    heights: list[float] = []
    for height in wanted:
        heights.append(max(height, heights[-1] + _APART) if heights else height)
    ceiling = 1.0
    for place in reversed(range(len(heights))):
        heights[place] = min(heights[place], ceiling)
        ceiling = heights[place] - _APART
    return heights


def _legend(panel: Any) -> None:
    panel.plot([], [], "o", color=GREY, markerfacecolor="white", label="the paper's attacker: never saw changed clips")
    panel.plot([], [], "s", color=GREY, label="attacker who adapts: fine-tuned on changed clips")
    panel.plot([], [], "--", color=GREY, linewidth=0.8, label="chance (dotted: for the paper's attacker)")
    panel.figure.legend(frameon=False, loc="outside lower center", ncols=2)
