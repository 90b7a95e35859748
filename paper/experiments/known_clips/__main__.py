"""Measures what known clips give, and shows the section of the page: ``python -m paper.experiments.known_clips``."""

from __future__ import annotations

from paper.experiments.known_clips.measuring import write
from paper.findings.seeds import Findings
from paper.page.sections.known_clips import section


def main() -> None:
    """Measure, write and show the section of the page."""
    print(section(Findings({}, known_clips=write())))


if __name__ == "__main__":
    main()
