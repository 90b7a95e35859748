"""What the experiments cost, and how to repeat them."""

from __future__ import annotations

from typing import Final

from paper.experiments.records import Records, Task, Way
from paper.findings.seeds import NOT_RUN, SEEDS, Findings
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Cost and commands"

_STEPS_HEAD: Final = ("rows", "held-out clips", "steps of training")
_COMMANDS: Final = """```bash
make paper                                     # missing rows, then this page
.venv/bin/python -m paper --page               # only this page and its charts
.venv/bin/python -m paper --seed 0 --only lcve-video --again
```"""


def section(findings: Findings) -> str:
    """Processor time a seed, by way."""
    rows = [(str(seed), *_times(findings.by_seed.get(seed, {}))) for seed in sorted({*SEEDS, *findings.by_seed})]
    head = ("seed", "rows", *(f"{way}, min" for way in Way), "all, min")
    text = paragraph(
        "Minutes of processor time, all threads together. A row is saved in `paper/results/` as soon as it is done,",
        "and an interrupted run resumes there. Every measured figure of this page comes from these files; key",
        "spaces are computed, and the paper's own figures are in `paper/findings/published.py`.",
    )
    steps = _steps(findings)
    parts = [_COMMANDS, text, table(head, rows), *([table(_STEPS_HEAD, steps)] if steps else [])]
    return "\n\n".join(parts)


def _times(records: Records) -> tuple[str, ...]:
    by_way = [[record.processor_seconds for row, record in records.items() if row.way is way] for way in Way]
    minutes = [f"{sum(seconds) / 60:.1f}" if seconds else NOT_RUN for seconds in by_way]
    whole = sum(record.processor_seconds for record in records.values())
    return (str(len(records)), *minutes, f"{whole / 60:.1f}" if records else NOT_RUN)


def _steps(findings: Findings) -> list[tuple[str, ...]]:
    """Clips and steps of each kind of rows; several where rows differ."""
    kinds: dict[tuple[Task, Way], tuple[set[int], set[int]]] = {}
    for records in findings.by_seed.values():
        for row, record in records.items():
            clips, steps = kinds.setdefault((row.task, row.way), (set(), set()))
            clips.add(record.clips)
            steps.add(record.steps)
    return [
        (f"{task}, {way}", *(", ".join(map(str, sorted(numbers))) for numbers in kinds[task, way]))
        for way in Way
        for task in Task
        if (task, way) in kinds
    ]
