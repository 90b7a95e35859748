"""Markdown: tables and paragraphs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["bullets", "paragraph", "table"]

_WIDTH: Final = 118
_BAR: Final = r"\|"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; bars stay inside of their cells."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', _BAR) for cell in line)} |" for line in lines)


def paragraph(*sentences: str, indent: str = "") -> str:
    """Text in lines that fit the page's source."""
    return textwrap.fill(
        " ".join(sentences), _WIDTH, break_long_words=False, break_on_hyphens=False, subsequent_indent=indent
    )


def bullets(lines: Iterable[str]) -> str:
    """A list."""
    return "\n".join(paragraph(f"- {line}", indent="  ") for line in lines)
