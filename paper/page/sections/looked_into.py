"""Explanations of unexpected rows."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paper.experiments.looked_into import ASKED, NO_POSITIONS
from paper.findings.seeds import NOT_RUN, Findings, percent
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Explanations"


def section(findings: Findings) -> str:
    """Time turned round, and hits by action."""
    found = findings.looked_into
    if found is None:
        return NOT_RUN
    seeds = [value for name, value in found.items() if name != "actions"]
    return "\n\n".join(
        [
            paragraph(
                "**Why cubes may be anywhere.** The plain model classifies plain held-out clips, changed as the",
                "table says; shares in percent, means over seeds. *Opposite*: classified as the opposite action,",
                "such as right for left.",
            ),
            table(("plain clips", "right", "opposite"), [_asked(seeds, name) for name in (*ASKED, NO_POSITIONS)]),
            paragraph(
                "**Which clips are hit without the key.** Share of the clips of each action that are recognised, in",
                "percent, means over seeds and some of their keys; luck is 12.5.",
            ),
            table(("row", *found["actions"]), [_hits(seeds, name) for name in seeds[0]["by_action"]]),
        ]
    )


def _asked(seeds: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    return name, *(_mean([seed["turned_round"][name][share] for seed in seeds]) for share in ("right", "opposite"))


def _hits(seeds: list[dict[str, Any]], name: str) -> tuple[str, ...]:
    return name, *map(_mean, zip(*(seed["by_action"][name] for seed in seeds), strict=True))


def _mean(shares: Any) -> str:
    return percent(float(np.mean(shares)))
