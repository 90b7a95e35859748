"""The rows without the key: how accuracies spread over keys, and whether they lie above chance."""

from __future__ import annotations

import statistics
from typing import Final

from paper.experiments.records import Row, Task, Way
from paper.findings.chance import lucky
from paper.findings.compared import level, title
from paper.findings.seeds import NOT_RUN, Findings, percent
from paper.page.keys_chart import KEYED, WRONG_FED, has_points
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Without the key"

_PICTURE: Final = "![Accuracies of the rows without the key, a point for each key, with chance](paper-keys.svg)"
_FED: Final = {
    "plain": "scrambled model, plain clips",
    "pixel-video": "scrambled model, pixels shuffled",
    "cube-video": "scrambled model, cubes shuffled",
}


def section(findings: Findings) -> str:
    """Both tasks, a row for every distribution."""
    text = paragraph(
        "The plain model on encrypted clips, and the scrambled model on clips that are not fully encrypted: one",
        "accuracy for each key of each seed. Chance is the share of the most frequent class among the held-out",
        "clips. An accuracy is above chance if it exceeds the 97.5 % point of the binomial distribution with that",
        "share (exact sum). *above* counts these; *luck* is the 97.5 % point of their number if all keys only",
        "guess. A row is above chance if *above* exceeds *luck*. The test favours encryption if a model spreads its",
        "guesses over the classes, because the most frequent class is more frequent than the average one.",
    )
    head = (
        "task",
        "row",
        "level",
        "least",
        "quartiles",
        "median",
        "most",
        "chance",
        "limit",
        "above",
        "luck",
        "above chance?",
    )
    rows = [_row(findings, row) for task in Task for row in (*KEYED[task], *WRONG_FED[task])]
    return "\n\n".join([text, table(head, rows), *([_PICTURE] if has_points(findings) else [])])


def _row(findings: Findings, row: Row) -> tuple[str, ...]:
    scrambled = row.way is Way.SCRAMBLED
    named = (
        row.task,
        _FED[row.method] if scrambled else title(row.method),
        "video" if scrambled else level(row.method),
    )
    found = findings.row(row)
    if found is None:
        return (*named, NOT_RUN, *("",) * 8)
    quartiles = (
        statistics.quantiles(found.values, n=4, method="inclusive") if len(found.values) > 1 else found.values * 3
    )
    low, median, high = map(percent, quartiles)
    return (
        *named,
        percent(min(found.values)),
        f"{low} to {high}",
        median,
        percent(max(found.values)),
        percent(found.chance),
        percent(found.limit),
        f"{found.above} of {len(found.values)}",
        str(lucky(len(found.values))),
        "yes" if found.above_chance else "no",
    )
