"""Comparing what a command prints with what a page says that it prints.

Words must be the same. What differs from run to run need not be: a number matches any number, a key id or digest any
other hexadecimal text, and the rest of a line after ``...`` anything. A line of ``...`` alone is any number of lines.
Runs of spaces count as one.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["matches"]

ELLIPSIS: Final = "..."
_VARYING: Final = re.compile(r"[0-9a-f]{16,}|[-+]?\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?|\s+|\.\.\.")
_PATTERNS: Final = ((r"[0-9a-f]{16,}", r"[0-9a-f]{16,}"), (r"\s+", r"\s+"), (r"\.\.\.", r".*"))
_NUMBER: Final = r"[-+]?\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?"


def matches(expected: str, printed: str) -> bool:
    """Whether a command printed what the page says."""
    lines = expected.strip("\n").splitlines()
    pattern = "".join(r"(?:.*\n)*" if line.strip() == ELLIPSIS else _line(line) + r"\n" for line in lines)
    return re.fullmatch(pattern, printed.strip("\n") + "\n") is not None


def _line(line: str) -> str:
    """A pattern for one line."""
    parts, end = [], 0
    for match in _VARYING.finditer(line):
        parts += [re.escape(line[end : match.start()]), _varying(match[0])]
        end = match.end()
    return r"\s*".join(["", "".join(parts) + re.escape(line[end:]), ""]).replace(r"\s*\s+", r"\s*")


def _varying(text: str) -> str:
    return next((pattern for known, pattern in _PATTERNS if re.fullmatch(known, text)), _NUMBER)
