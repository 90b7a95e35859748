"""Table 3: accuracy of actions."""

from __future__ import annotations

from typing import Final

from lcve_deploy.keys.keyspace import Level
from paper.experiments.records import Task, Way
from paper.experiments.small_clips.measuring import BLOCKS, DCT
from paper.findings import published
from paper.findings.compared import COMPARED, LCVE, PLAIN, level, title
from paper.findings.seeds import NOT_RUN, Findings, Found, agreement, cell, spread, spread_of
from paper.page.markdown import bullets, paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Table 3 on a small scale: actions"

_LCVE_ROWS: Final = {
    Way.UNTRAINED: "LCVE, plain model without the key",
    Way.FINE_TUNED: "LCVE, fine-tuned",
    Way.SCRAMBLED: "LCVE + ViT Scrambling",
}
_SMALL_ROWS: Final = {
    BLOCKS: "Block-preserving under H.264, scrambled weights",
    DCT: "`lcve-dct-1` + ViT Scrambling",
}
_NO_FIGURES: Final = ("-",) * len(published.COMPARISON_DATASETS)


def section(findings: Findings) -> str:
    """The table, what ViT Scrambling does to the last digit, and Table 4 as published."""
    others = [method for method in COMPARED if method not in (PLAIN, LCVE)]
    rows = [
        _row(findings, PLAIN, Way.TRAINED, title(PLAIN)),
        _row(findings, PLAIN, Way.FINE_TUNED, f"{title(PLAIN)}, fine-tuned"),
        *(_row(findings, method, Way.FINE_TUNED, f"{title(method)}, fine-tuned") for method in others),
        *(_row(findings, LCVE, way, text) for way, text in _LCVE_ROWS.items()),
        *(_small_row(findings, name, text) for name, text in _SMALL_ROWS.items()),
    ]
    head = ("method", "level", "here: mean (range), %", "keys", "as it is, %", *published.COMPARISON_DATASETS)
    return "\n\n".join(
        [
            paragraph(
                "Top-1 in percent. Ours: mean and range over seeds and keys. A fine-tuned model is the plain one,",
                "trained further on clips of the method under one key, and tested on held-out clips under the same",
                "key. The fine-tuned row of plain clips has the same number of additional steps: compare the other",
                "fine-tuned rows with this one. The last three columns are the paper's; pixel and cube shuffling",
                "are in its Table 6. The last two rows are not of the paper: see [below](#clips-of-few-bytes).",
            ),
            table(head, rows),
            bullets(_exactness(task, findings.get(task, LCVE, Way.SCRAMBLED)) for task in Task),
            "The paper's Table 4, on large data sets, has no counterpart here:",
            table(("method", *published.LARGE_DATASETS), [_large(row) for row in published.LARGE]),
        ]
    )


def _row(findings: Findings, method: str, way: Way, text: str) -> tuple[str, ...]:
    found = findings.get(Task.ACTION, method, way)
    keys = "-" if found is None or level(method) == "-" else str(len(found.values))
    figures = published.COMPARISON.get(f"{method}/{way}")
    changed = way is Way.FINE_TUNED and method != PLAIN
    untrained = cell(findings.get(Task.ACTION, method, Way.UNTRAINED)) if changed else "-"
    return (text, level(method), cell(found), keys, untrained, *(map(str, figures) if figures else _NO_FIGURES))


def _small_row(findings: Findings, name: str, text: str) -> tuple[str, ...]:
    found = findings.small_clips
    if found is None:
        return (text, Level.VIDEO, NOT_RUN, "-", "-", *_NO_FIGURES)
    shares = [seed[name]["accuracy"] for seed in found["digits"].values()]
    return (text, Level.VIDEO, spread_of(shares), str(len(shares)), "-", *_NO_FIGURES)


def _exactness(task: Task, found: Found | None) -> str:
    if found is None:
        return f"LCVE + ViT Scrambling against the plain model on plain clips, {task}: {NOT_RUN}."
    return (
        f"LCVE + ViT Scrambling against the plain model on plain clips, {task}: {agreement(found)}; accuracy "
        f"{spread(found)}; the largest difference of a logit is {max(found.differences):.2g}."
    )


def _large(row: str) -> tuple[str, ...]:
    method, way = row.split("/")
    text = _LCVE_ROWS[Way(way)] if method == LCVE else title(method)
    return (text, *map(str, published.LARGE[row]))
