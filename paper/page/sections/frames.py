"""What an encrypted clip looks like."""

from __future__ import annotations

from typing import Final

from paper.findings.seeds import Findings

__all__ = ["TITLE", "section"]

TITLE: Final = "What encrypted clips look like"

_TEXT: Final = """![Frames of moving digits and of a film, plain and under every method of this page](paper-frames.png)

Frames under every method. "Big Buck Bunny" (c) 2008 Blender Foundation, CC BY 3.0."""


def section(_: Findings) -> str:
    """The picture."""
    return _TEXT
