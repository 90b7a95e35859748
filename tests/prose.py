"""Words that the house does not use, in pages and in the text of the package:

    python -m tests.prose
    python -m tests.prose --shrink    # takes files that are clean off the list of allowed ones

Looks at README, docs and the other pages, without their code, and at docstrings, messages and comments of
``lcve_deploy``. Prints each finding with what to write instead, and exits with 1 if there is any.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["ALLOWED", "HOUSE", "findings", "in_markdown", "in_python", "words"]

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = ("*.md", "docs/**/*.md", "paper/*.md")
HOUSE: Final = {
    r"whoever|whomever": "anyone who, or the role",
    r"besides?": "next to, in addition to, also, except",
    r"anew": "again",
    r"meanwhile": "while",
    r"hence|hitherto|thereof|whence|lest|upon|amiss": "a plain word",
    r"he|him|his|himself": "they, or the role: the operator, the owner",
    r"without a word|in silence": "silently",
    r"(?:does|do|did|must|will) not hold|that hold good": "is invalid, is false, does not contain",
    r"rooms?": "package, module; space, margin",
    r"floors?": "layer; minimum",
    r"gives? (?:\w+ ){0,2}away": "reveals",
    r"tells? (?:\w+ ){0,3}apart": "distinguishes",
    r"rightly": "correctly",
    r"go(?:es)? on": "continues",
    r"where there (?:is|are)": "if there is",
    r"where (?:none|nothing|it is not)": "if none",
    r"strangers?": "untrusted, unknown; or the role",
}
"""Words, as regular expressions, and what to write instead."""

_LIST: Final = Path(__file__).parent / "prose_allowed.txt"
ALLOWED: Final = _LIST.read_text(encoding="utf-8").split()
"""Files that still have such words, by their paths in the repository. A clean file must leave the list."""

_HOUSE: Final = {
    re.compile(rf"(?<![\w'-])(?:{words})(?![\w-])", re.IGNORECASE): advice for words, advice in HOUSE.items()
}
_NOT_PROSE: Final = re.compile(r"```.*?```|<!--.*?-->|``[^`]*``|`[^`]*`|\]\([^)]*\)", re.DOTALL)


def findings() -> dict[str, list[str]]:
    """Findings by path in the repository, of files that have some."""
    found = {}
    for path in sorted({path for glob in PAGES for path in ROOT.glob(glob)}):
        found[path] = list(words(in_markdown(path.read_text(encoding="utf-8"))))
    for path in sorted((ROOT / "lcve_deploy").rglob("*.py")):
        found[path] = list(words(in_python(path.read_text(encoding="utf-8"))))
    return {path.relative_to(ROOT).as_posix(): lines for path, lines in found.items() if lines}


def in_markdown(text: str) -> str:
    """A page without code, comments and addresses; every line stays on its line."""
    return _blank(_NOT_PROSE, text)


def in_python(text: str) -> str:
    """Strings and comments of a module, each on its line, without code in backticks."""
    lines = [""] * (text.count("\n") + 2)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(_blank(_NOT_PROSE, node.value).split("\n")):
                lines[min(node.lineno - 1 + offset, len(lines) - 1)] += f" {line}"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            lines[token.start[0] - 1] += f" {_blank(_NOT_PROSE, token.string)}"
    return "\n".join(lines)


def _blank(pattern: re.Pattern[str], text: str) -> str:
    return pattern.sub(lambda match: "\n" * match[0].count("\n") or " ", text)


def words(text: str) -> Iterator[str]:
    """Findings in a text, each with its line."""
    for number, line in enumerate(text.split("\n"), start=1):
        for pattern, advice in _HOUSE.items():
            for match in pattern.finditer(line):
                yield f"{number}: {match[0]!r}, rather: {advice}"


if __name__ == "__main__":
    found = findings()
    if "--shrink" in sys.argv:
        _LIST.write_text("".join(f"{name}\n" for name in ALLOWED if name in found), encoding="utf-8")
    listed = [f"{name}:{line}" for name, lines in found.items() if name not in ALLOWED for line in lines]
    sys.stdout.write("".join(f"{line}\n" for line in listed))
    sys.exit(bool(listed))
