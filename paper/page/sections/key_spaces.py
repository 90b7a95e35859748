"""Table 1: key spaces."""

from __future__ import annotations

from typing import Final

from lcve_deploy.keys.keyspace import Level
from paper.experiments.dataset import GEOMETRY
from paper.findings import published
from paper.findings.keyspaces import (
    BLOCKS_FORMULA,
    DCT_FORMULA,
    THE_PAPERS,
    block_preserving_size,
    dct_size,
    key_space_sizes,
)
from paper.findings.seeds import Findings
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "Table 1: key spaces"

_MORE: Final = (
    ("Block-preserving", BLOCKS_FORMULA, block_preserving_size),
    ("`lcve-dct-1`", DCT_FORMULA, dct_size),
)


def section(_: Findings) -> str:
    """The paper's figures beside those that are computed, and two methods that the paper does not have."""
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
    rows += [
        (name, Level.VIDEO, f"`{formula}`", "-", size(THE_PAPERS), "-", size(GEOMETRY)) for name, formula, size in _MORE
    ]
    text = paragraph(
        "`lcve keyspace` computes them for any geometry; here for the paper's, 16×224×224 in cubes of 2×16×16, and",
        f"for the clips of this page, {GEOMETRY.frames}×{GEOMETRY.height}×{GEOMETRY.width} in the same cubes (N =",
        f"{GEOMETRY.cubes}, L = {GEOMETRY.values}). The size of a key space does not show what an attack costs: see",
        "[security](security.md). The last two rows are not of the paper: see [below](#clips-of-few-bytes).",
    )
    head = ("method", "level", "orders", "paper", "computed", "same", "clips of this page")
    return f"{text}\n\n{table(head, rows)}"
