"""Table 6: all combinations of the three operations."""

from __future__ import annotations

import itertools
from typing import Final

from paper.experiments.records import Task, Way
from paper.findings import published
from paper.findings.compared import LCVE, PLAIN
from paper.findings.seeds import NOT_RUN, Findings, Found, spread
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Table 6 on a small scale: what each operation does"

_METHODS: Final = {"": PLAIN, "P": "pixel-video", "C": "cube-video", "PC": LCVE}
"""What clips are fed, by the operations on clips."""
_NO_FIGURES: Final = ("-",) * len(published.ABLATION_DATASETS)


def section(findings: Findings) -> str:
    """All eight rows; the paper has six."""
    rows = [_row(findings, "".join(on)) for count in range(4) for on in itertools.combinations("PCS", count)]
    head = ("pixels", "cubes", "scrambling", "as it is, %", "above chance?", "fine-tuned, %", "above chance?")
    text = paragraph(
        "Actions, top-1, mean and range over seeds and keys. *As it is*: the plain model, or with scrambling the",
        "model exported with the key, on clips in which values, cubes, both or nothing were moved under the same",
        "key. *Above chance?*: for how many keys and seeds the accuracy is above chance, as",
        "[below](#without-the-key). The last columns are the paper's; its rows with a shuffle and without",
        "scrambling are fine-tuned. The paper has no rows with scrambling and only one shuffle.",
    )
    return f"{text}\n\n{table((*head, *published.ABLATION_DATASETS), rows)}"


def _row(findings: Findings, on: str) -> tuple[str, ...]:
    method = _METHODS[on.removesuffix("S")]
    scrambled = on.endswith("S")
    way = Way.SCRAMBLED if scrambled else Way.UNTRAINED if on else Way.TRAINED
    tuned = () if scrambled or not on else _cells(findings.get(Task.ACTION, method, Way.FINE_TUNED))
    figures = published.ABLATION.get(on)
    return (
        *("✓" if operation in on else "" for operation in "PCS"),
        *_cells(findings.get(Task.ACTION, method, way)),
        *(tuned or ("-", "-")),
        *(map(str, figures) if figures else _NO_FIGURES),
    )


def _cells(found: Found | None) -> tuple[str, str]:
    if found is None:
        return NOT_RUN, NOT_RUN
    return spread(found), f"{'yes' if found.above_chance else 'no'}, {found.above} of {len(found.values)}"
