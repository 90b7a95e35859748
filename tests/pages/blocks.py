"""The code blocks of a Markdown page, and what is to be done with each.

Every ``bash`` and ``python`` block is run. An HTML comment directly above a block says otherwise, or says how:

    <!-- test: skip, REASON -->         not run, and why: it needs hardware, a package index, a container engine
    <!-- test: background -->           a server: started, left running, and ended before the next one
    <!-- test: slow -->                 run last, by a test of its own that is marked slow
    <!-- test: save as NAME -->         written to that file, and not run
    <!-- test: output -->               of a block of text: the whole output of the block above it stands here

Two comments hold for the whole page and stand at its top:

    <!-- test: page skip, REASON -->    none of its blocks is run
    <!-- test: start in FOLDER -->      where its first block begins, below the checkout

A ``text`` block is the expected output of the last block above it, unless other blocks of code lie between.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = ["Block", "Mode", "Page", "PageError", "read_page"]

RUN_LANGUAGES: Final = ("bash", "python")
_FENCE: Final = re.compile(
    r"(?:^<!-- test: (?P<mark>.*?) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_COMMENT: Final = re.compile(r"^<!-- test: (.*?) -->$", re.MULTILINE)
_LEAST_REASON: Final = 3
"""Words of a reason."""


class PageError(Exception):
    """A page that does not say what is to be done with a block."""


class Mode(StrEnum):
    """What is done with a block."""

    RUN = "run"
    SKIP = "skip"
    BACKGROUND = "background"
    SLOW = "slow"
    SAVE = "save as"


@dataclass(frozen=True, kw_only=True)
class Block:
    """One block of code.

    Args:
        page: name of the file it is on.
        line: of its fence, from 1.
        language: ``bash`` or ``python``.
        text: its code.
        mode: what is done with it.
        detail: the reason of ``skip``, the file of ``save as``; else empty.
        expected: what the page says it prints; None where it says nothing.
    """

    page: str
    line: int
    language: str
    text: str
    mode: Mode
    detail: str
    expected: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page.

    Args:
        name: its path, below the checkout.
        start: folder below the checkout in which its first block begins.
        blocks: in the order in which they stand.
    """

    name: str
    start: str
    blocks: tuple[Block, ...]


def read_page(path: Path, name: str) -> Page:
    """The blocks of a page.

    Raises:
        PageError: a mark that is not known, lacks its reason, or stands above no block.
    """
    text = path.read_text(encoding="utf-8")
    found = list(_FENCE.finditer(text))
    start, skipped = _page_marks(text, name, {match.start() for match in found if match["mark"]})
    blocks: list[Block] = []
    last: Block | None = None
    for match in found:
        line = text.count("\n", 0, match.start("language")) + 1
        if match["language"] == "text" and last is not None:
            blocks[blocks.index(last)] = _with_output(last, match["text"])
            last = None
            continue
        last = None
        if match["language"] not in RUN_LANGUAGES:
            continue
        mark = f"skip, {skipped}" if skipped else match["mark"] or Mode.RUN
        mode, detail = _mode(mark, f"{name}:{line}")
        last = Block(
            page=name,
            line=line,
            language=match["language"],
            text=match["text"],
            mode=mode,
            detail=detail,
            expected=None,
        )
        blocks.append(last)
    return Page(name=name, start=start, blocks=tuple(blocks))


def _with_output(block: Block, text: str) -> Block:
    return Block(**{**block.__dict__, "expected": text})


def _page_marks(text: str, name: str, of_blocks: set[int]) -> tuple[str, str]:
    """Folder to start in, and the reason why nothing of the page is run; each may be empty."""
    start = reason = ""
    for match in _COMMENT.finditer(text):
        mark = match[1]
        if match.start() in of_blocks:
            continue
        if mark.startswith("start in "):
            start = mark.removeprefix("start in ")
        elif mark.startswith("page skip, "):
            reason = mark.removeprefix("page skip, ")
        else:
            raise PageError(f"{name}: <!-- test: {mark} --> stands above no block")
    return start, reason


def _mode(mark: str, place: str) -> tuple[Mode, str]:
    skip, comma, reason = mark.partition(", ")
    if skip == Mode.SKIP:
        if not comma or len(reason.split()) < _LEAST_REASON:
            raise PageError(f"{place}: a block that is not run needs a reason: <!-- test: skip, REASON -->")
        return Mode.SKIP, reason
    if mark.startswith(f"{Mode.SAVE} "):
        return Mode.SAVE, mark.removeprefix(f"{Mode.SAVE} ")
    if mark not in (Mode.RUN, Mode.BACKGROUND, Mode.SLOW):
        raise PageError(f"{place}: expected skip, background, slow or save as, received {mark!r}")
    return Mode(mark), ""
