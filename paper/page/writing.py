"""``docs/evidence/paper.md``, its charts and its picture; every figure of ours comes from ``paper/results/``."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from paper.experiments import looked_into
from paper.experiments.dataset import CLASSES, GEOMETRY
from paper.experiments.known_clips import measuring as known_clips
from paper.experiments.records import Task, read_records
from paper.experiments.small_clips import measuring as small_clips
from paper.findings.seeds import SEEDS, Findings
from paper.page.keys_chart import has_points as has_keys
from paper.page.keys_chart import write_keys_chart
from paper.page.markdown import paragraph
from paper.page.opened_picture import write_opened
from paper.page.pictures import write_frames
from paper.page.sections import (
    ablation,
    carries_over,
    comparison,
    cost,
    few_clips,
    frames,
    key_spaces,
    privacy,
    without_key,
)
from paper.page.sections import known_clips as known_clips_section
from paper.page.sections import looked_into as looked_into_section
from paper.page.sections import small_clips as small_clips_section
from paper.page.tradeoff_chart import has_points as has_tradeoff
from paper.page.tradeoff_chart import write_tradeoff_chart

__all__ = ["DOCS", "committed", "render", "write_page"]

DOCS: Final = Path(__file__).parents[2] / "docs/evidence"
_REMARKS: Final = Path(__file__).parents[1] / "remarks.md"
_SECTIONS: Final = (
    key_spaces,
    comparison,
    privacy,
    small_clips_section,
    few_clips,
    known_clips_section,
    ablation,
    without_key,
    frames,
    carries_over,
    looked_into_section,
    cost,
)
"""In the order of the page."""

_WHAT_IT_IS: Final = paragraph(
    "This page repeats the tables of *Learnable Cube-based Video Encryption for Privacy-Preserving Action",
    "Recognition* (Ishikawa, Kondo, Kataoka) on a small scale, with code that anyone can run: `make paper`. Table 1",
    f"is computed. Tables 3, 5 and 6 are measured on moving digits: a clip of {GEOMETRY.frames} frames of",
    f"{GEOMETRY.height}×{GEOMETRY.width} shows a handwritten digit that moves in one of {CLASSES[Task.ACTION]} ways.",
    f"The motion is the action; the digit, one of {CLASSES[Task.IDENTITY]}, is the private identity. Cubes are those",
    f"of the paper, 2×16×16. Every row is planned for {len(SEEDS)} seeds; rows without training are tried with many",
    "keys for each seed, as the tables say.",
)
_WHAT_IT_IS_NOT: Final = paragraph(
    "It does not reproduce the paper. The data are synthetic, the model is a small VideoMAE without any",
    "pre-training, and clips are small. So percentages must not be compared with the paper's. What can be compared",
    "is which row is above which, what is at chance, and what is exact. Real clips have more to lose, and more to",
    "recognise.",
)


def render(findings: Findings) -> str:
    """The page; what is missing shows as not run."""
    parts = [
        "# The paper on a small scale",
        "<!-- made by make paper; remarks are written by hand in paper/remarks.md -->",
        _WHAT_IT_IS,
        _WHAT_IT_IS_NOT,
        "## In short",
        carries_over.summary(findings),
        *(f"## {part.TITLE}\n\n{part.section(findings)}" for part in _SECTIONS),
        _REMARKS.read_text(encoding="utf-8").strip(),
    ]
    return "\n\n".join(parts) + "\n"


def committed() -> Findings:
    """What is in ``paper/results/``."""
    records = {seed: found for seed in SEEDS if (found := read_records(seed))}
    return Findings(records, known_clips.read(), looked_into.read(), small_clips.read())


def write_page(docs: Path = DOCS) -> None:
    """Write the page, its picture, and the charts that have something to show."""
    findings = committed()
    (docs / "paper.md").write_text(render(findings), encoding="utf-8")
    write_frames(docs / "paper-frames.png")
    write_opened(docs / "paper-opened.png")
    if has_tradeoff(findings):
        write_tradeoff_chart(findings, docs / "paper.svg")
    if has_keys(findings):
        write_keys_chart(findings, docs / "paper-keys.svg")
