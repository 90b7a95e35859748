"""Measures clips of few bytes, and shows the section of the page: ``python -m paper.experiments.small_clips``."""

from __future__ import annotations

from pathlib import Path

from paper.experiments.small_clips.measuring import read, write
from paper.findings.seeds import SEEDS, Findings
from paper.page.sections.small_clips import section

_WORK = Path(__file__).parents[2] / "work"


def main() -> None:
    """Measure, write and show the section of the page."""
    write(SEEDS, _WORK)
    print(section(Findings({}, small_clips=read())))


if __name__ == "__main__":
    main()
