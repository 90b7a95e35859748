"""Table 1: key spaces."""

from __future__ import annotations

from typing import Final

from paper.experiments.dataset import GEOMETRY
from paper.findings import published
from paper.findings.keyspaces import THE_PAPERS, key_space_sizes
from paper.findings.seeds import Findings
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Table 1: key spaces"


def section(_: Findings) -> str:
    """The paper's figures beside those that are computed."""
    computed, ours = key_space_sizes(THE_PAPERS), key_space_sizes(GEOMETRY)
    rows = [
        (
            row.method,
            row.level,
            f"`{row.formula}`",
            row.size,
            computed[row.method, row.level],
            "yes" if computed[row.method, row.level] == row.size else "**no**",
            ours[row.method, row.level],
        )
        for row in published.KEY_SPACES
    ]
    text = paragraph(
        "`lcve keyspace` computes them for any geometry; here for the paper's, 16×224×224 in cubes of 2×16×16, and",
        f"for the clips of this page, {GEOMETRY.frames}×{GEOMETRY.height}×{GEOMETRY.width} in the same cubes (N =",
        f"{GEOMETRY.cubes}, L = {GEOMETRY.values}). The size of a key space does not show what an attack costs: see",
        "[security](security.md).",
    )
    head = ("method", "level", "orders", "paper", "computed", "same", "clips of this page")
    return f"{text}\n\n{table(head, rows)}"
