"""Markdown tables, and numbers with the digits that matter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

_MANY = 10
_WIDTH = 118
_BAR = r"\|"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', _BAR) for cell in line)} |" for line in lines)


def number(value: float, digits: int = 3) -> str:
    """Three decimals below ten, one above."""
    return f"{value:.{1 if value >= _MANY else digits}f}"


def interval(ratio: dict[str, Any], digits: int = 2) -> str:
    """First to third quartile."""
    return f"{number(ratio['low'], digits)} to {number(ratio['high'], digits)}"


SPREAD = ("ratio", "quartiles", "processes, lowest to highest", "processes × rounds")
"""Heads of what :func:`spread` gives."""


def spread(row: dict[str, Any], digits: int = 2) -> tuple[str, str, str, str]:
    """Median ratio, its quartiles, the medians of processes, and how much was measured."""
    processes, rounds = row["processes"], row["rounds"]
    between = f"{number(row['lowest'], digits)} to {number(row['highest'], digits)}" if processes > 1 else "-"
    return number(row["ratio"], digits), interval(row, digits), between, f"{processes} × {rounds // processes}"


def paragraph(*sentences: str) -> str:
    """Text in lines that fit the page's source."""
    return textwrap.fill(" ".join(sentences), _WIDTH, break_long_words=False, break_on_hyphens=False)
