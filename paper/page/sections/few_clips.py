"""How many encrypted clips an adaptive attacker needs."""

from __future__ import annotations

from typing import Final

from paper.experiments.dataset import TRAINING_CLIPS
from paper.experiments.records import Task, Way
from paper.findings.compared import LCVE
from paper.findings.seeds import NOT_RUN, Findings, Found, percent, spread
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "How many clips are needed to adapt to LCVE"

_WAYS: Final = {Way.FINE_TUNED_256: 256, Way.FINE_TUNED_1024: 1024, Way.FINE_TUNED: TRAINING_CLIPS}
"""Labelled encrypted clips that the model is fine-tuned on."""


def section(findings: Findings) -> str:
    """Both tasks by the number of clips."""
    text = paragraph(
        "The plain model, fine-tuned on this many labelled LCVE clips under one key, and tested on held-out clips",
        "under the same key; top-1 in percent. *Above chance* counts seeds.",
    )
    head = ("labelled LCVE clips", *(f"{task}{part}" for task in Task for part in ("", ", above chance")))
    rows = [
        (str(clips), *(text for task in Task for text in _cells(findings, task, way))) for way, clips in _WAYS.items()
    ]
    others = ", ".join(f"{task} {_others(findings.get(task, LCVE, Way.OTHER_KEYS))}" for task in Task)
    under_others = paragraph(
        f"A model that was fine-tuned on {TRAINING_CLIPS} clips under one key, tested on clips under other keys:",
        f"{others}.",
    )
    return f"{text}\n\n{table(head, rows)}\n\n{under_others}"


def _others(found: Found | None) -> str:
    if found is None:
        return NOT_RUN
    return f"{spread(found)}, above chance in {found.above} of {len(found.values)}"


def _cells(findings: Findings, task: Task, way: Way) -> tuple[str, str]:
    found = findings.get(task, LCVE, way)
    if found is None:
        return NOT_RUN, NOT_RUN
    return f"{spread(found)}, chance {percent(found.chance)}", f"{found.above} of {len(found.values)}"
