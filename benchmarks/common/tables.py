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


def paragraph(*sentences: str) -> str:
    """Text in lines that fit the page's source."""
    return textwrap.fill(" ".join(sentences), _WIDTH, break_long_words=False, break_on_hyphens=False)
