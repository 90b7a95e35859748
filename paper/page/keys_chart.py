"""``docs/evidence/paper-keys.svg``: accuracies of the rows without the key, a point for each key."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from paper.experiments.records import Row, Task, Way
from paper.findings.compared import short_title
from paper.findings.seeds import Findings, Found
from paper.methods.table import ENCRYPTIONS
from paper.page.drawing import COLOURS, GREY, drawn, family

__all__ = ["KEYED", "WRONG_FED", "has_points", "write_keys_chart"]

KEYED: Final = {
    task: tuple(Row(task=task, method=method.name, way=Way.UNTRAINED) for method in ENCRYPTIONS) for task in Task
}
"""The plain model on encrypted clips, by task."""
WRONG_FED: Final = {
    Task.ACTION: tuple(
        Row(task=Task.ACTION, method=method, way=Way.SCRAMBLED) for method in ("plain", "pixel-video", "cube-video")
    ),
    Task.IDENTITY: (),
}
"""The scrambled model on clips that are not fully encrypted, by task."""

_FED: Final = {"plain": "plain clips", "pixel-video": "pixels shuffled", "cube-video": "cubes shuffled"}
_MAX_ROWS: Final = max(len(KEYED[task]) + len(WRONG_FED[task]) for task in Task)
_LANES: Final = 5
_SPREAD: Final = 0.12


def has_points(findings: Findings) -> bool:
    """Whether there is anything to draw."""
    return any(findings.row(row) for rows in (KEYED, WRONG_FED) for task in Task for row in rows[task])


def write_keys_chart(findings: Findings, path: Path) -> None:
    """A panel for each task."""
    with drawn(path, (9, 4.8)) as figure:
        panels = figure.subplots(1, len(Task))
        for panel, task in zip(panels, Task, strict=True):
            _panel(panel, [(row, findings.row(row)) for row in (*KEYED[task], *WRONG_FED[task])])
            panel.set_xlabel(f"{task} (%), a point for each key")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=3)


def _panel(panel: Any, rows: list[tuple[Row, Found | None]]) -> None:
    """The first row on top."""
    for place, (row, found) in enumerate(rows):
        if found is not None:
            _strip(panel, place, found, COLOURS[family(row.method)])
    panel.set_yticks(range(len(rows)), [_label(row) for row, _ in rows])
    panel.set_ylim(_MAX_ROWS - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.plot([], [], color=GREY, linewidth=1.2, label="chance")
    panel.plot([], [], color=GREY, linewidth=1.2, linestyle=":", label="97.5 % point of chance")


def _strip(panel: Any, place: int, found: Found, colour: str) -> None:
    """Points in lanes, in the order of keys, so that equal accuracies do not hide one another.

    Lines of rows with the same chance meet.
    """
    heights = [place + _SPREAD * (number % _LANES - _LANES // 2) for number in range(len(found.values))]
    panel.plot([100 * value for value in found.values], heights, "o", color=colour, markersize=3, alpha=0.6)
    for share, line in ((found.chance, "-"), (found.limit, ":")):
        panel.plot([100 * share] * 2, [place - 0.5, place + 0.5], color=GREY, linewidth=1.2, linestyle=line)


def _label(row: Row) -> str:
    if row.way is Way.SCRAMBLED:
        return f"scrambled, {_FED[row.method]}"
    return short_title(row.method)
