"""The code blocks of a Markdown page, and what is to be done with each.

Every ``bash`` and ``python`` block is run. An HTML comment directly above a block says otherwise, or says how:

    <!-- test: skip, REASON -->         not run, and why: it needs hardware, a package index, a container engine
    <!-- test: background -->           a server: started, left running, and ended before the next one
    <!-- test: slow -->                 run last, by a test of its own that is marked slow
    <!-- test: save as NAME -->         written to that file, and not run

Two comments hold for the whole page and stand at its top:

    <!-- test: page skip, REASON -->    none of its blocks is run
    <!-- test: start in FOLDER -->      where its first block begins, below the checkout

A ``text`` block is the expected output of the last block above it, unless other blocks of code lie between. Blocks
without a language are neither run nor compared, such as a tree of folders; a command in one is an error.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

__all__ = ["Block", "Mode", "Page", "PageError", "read_page"]

RUN_LANGUAGES: Final = ("bash", "python")
_SHOWN_LANGUAGES: Final = ("", "text", "json", "toml", "yaml", "js")
"""Of blocks that are only shown; ``tests/javascript/`` runs the example of ``clients/js/``."""
_FENCE: Final = re.compile(r"(?P<indent>[ >]*)(?:```|~~~)(?P<language>.*)")
_COMMENT: Final = re.compile(r"<!-- test: (.*) -->")
_COMMAND: Final = re.compile(r"(?:\$ |lcve |pip |make |python |docker )")
_MIN_REASON: Final = 3
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


@dataclass(frozen=True, kw_only=True)
class _Fenced:
    """A block of code as it stands: number of its first line, the line above it, its language and its text."""

    line: int
    above: str
    language: str
    text: str


def read_page(path: Path, name: str) -> Page:
    """The blocks of a page.

    Raises:
        PageError: a mark that is not known, lacks its reason, or stands above no block; or a block that would be passed
            over although a reader may type it.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    fenced = list(_fenced(lines, name))
    start, skipped = _page_marks(lines, name, {block.line - 2 for block in fenced})
    blocks: list[Block] = []
    is_output = False  # whether a text block would be the output of the last one
    for found in fenced:
        if found.language == "text" and is_output:
            blocks[-1] = dataclasses.replace(blocks[-1], expected=found.text)
        is_output = found.language in RUN_LANGUAGES
        if is_output:
            blocks.append(_block(found, name, skipped))
    return Page(name=name, start=start, blocks=tuple(blocks))


def _fenced(lines: list[str], name: str) -> Iterator[_Fenced]:
    opened: int | None = None
    for index, line in enumerate(lines):
        match = _FENCE.fullmatch(line)
        if match is None:
            continue
        if match["indent"]:
            raise PageError(f"{name}:{index + 1}: a block of code begins at the start of a line")
        if opened is None:
            opened = index
            continue
        text = "".join(f"{one}\n" for one in lines[opened + 1 : index])
        language = lines[opened].lstrip("`~")
        if language not in (*RUN_LANGUAGES, *_SHOWN_LANGUAGES):
            raise PageError(f"{name}:{opened + 1}: expected bash, python or text, received {language!r}")
        if language not in RUN_LANGUAGES and _COMMAND.match(text):
            raise PageError(f"{name}:{opened + 1}: a command in a block that is not run: make it bash")
        yield _Fenced(line=opened + 1, above=lines[opened - 1] if opened else "", language=language, text=text)
        opened = None


def _page_marks(lines: list[str], name: str, above_blocks: set[int]) -> tuple[str, str]:
    """Folder to start in, and the reason why nothing of the page is run; each may be empty."""
    start = reason = ""
    for index, line in enumerate(lines):
        match = _COMMENT.fullmatch(line)
        if match is None or index in above_blocks:
            continue
        if match[1].startswith("start in "):
            start = match[1].removeprefix("start in ")
        elif match[1].startswith("page skip, "):
            reason = match[1].removeprefix("page skip, ")
        else:
            raise PageError(f"{name}:{index + 1}: {line} stands above no block")
    return start, reason


def _block(found: _Fenced, name: str, skipped: str) -> Block:
    comment = _COMMENT.fullmatch(found.above)
    own = comment[1] if comment else str(Mode.RUN)
    mode, detail = _mode(f"skip, {skipped}" if skipped else own, f"{name}:{found.line}")
    return Block(
        page=name,
        line=found.line,
        language=found.language,
        text=found.text,
        mode=mode,
        detail=detail,
        expected=None,
    )


def _mode(mark: str, place: str) -> tuple[Mode, str]:
    skip, comma, reason = mark.partition(", ")
    if skip == Mode.SKIP:
        if not comma or len(reason.split()) < _MIN_REASON:
            raise PageError(f"{place}: a block that is not run needs a reason: <!-- test: skip, REASON -->")
        return Mode.SKIP, reason
    if mark.startswith(f"{Mode.SAVE} "):
        return Mode.SAVE, mark.removeprefix(f"{Mode.SAVE} ")
    if mark not in (Mode.RUN, Mode.BACKGROUND, Mode.SLOW):
        raise PageError(f"{place}: expected skip, background, slow or save as, received {mark!r}")
    return Mode(mark), ""
