"""What known clips reveal of every compared encryption."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from paper.experiments.known_clips.measuring import DIGITS, FILM
from paper.findings.seeds import NOT_RUN, Findings
from paper.methods.table import ENCRYPTIONS
from paper.page.markdown import paragraph, table

__all__ = ["TITLE", "section"]

TITLE: Final = "What one known clip reveals"
_COLUMNS: Final = (
    (FILM, 1, "film, 1 known"),
    (DIGITS, 1, "digits, 1 known"),
    (DIGITS, 4, "digits, 4 known"),
)
_ENCRYPTIONS: Final = {method.name: method for method in ENCRYPTIONS}
Row = dict[str, Any]


def section(findings: Findings) -> str:
    """What ``paper.experiments.known_clips.measuring.measure`` found."""
    if findings.known_clips is None:
        return NOT_RUN
    found: list[Row] = findings.known_clips["rows"]
    rows = {(row["subject"], row["known"], row["method"]): row for row in found}
    names = dict.fromkeys(row["method"] for row in found)
    head = ("encryption", "level", *(title for _, _, title in _COLUMNS), "control, at most")
    lines = [_line(name, [rows[subject, known, name] for subject, known, _ in _COLUMNS]) for name in names]
    return "\n\n".join((_before(found), table(head, lines), _after(found)))


def _line(name: str, rows: list[Row]) -> tuple[str, ...]:
    method = _ENCRYPTIONS[name]
    control = max(row["control"]["values"]["mean"] for row in rows)
    return method.title, method.level, *(_cell(row) for row in rows), _percent(control, math.ceil)


def _cell(row: Row) -> str:
    """What was found of every order, and what that decrypts."""
    found = ", ".join(f"{name} {_percent(share['mean'])}" for name, share in row["found"].items())
    if row["exact"] == row["trials"]:
        return f"{found}; exact"
    mean, least = (_percent(row["values"][name]) for name in ("mean", "least"))
    return (
        f"{found}; exact in {row['exact']} of {row['trials']}, {mean} of values, at least {least}, {row['psnr']:.1f} dB"
    )


def _percent(share: float, rounded: Callable[[float], int] = math.floor) -> str:
    """Down by default, so that 100 is all of it."""
    return f"{rounded(1000 * share) / 10:g} %"


def _before(rows: list[Row]) -> str:
    film, digits = (next(row for row in rows if row["subject"] == name) for name in (FILM, DIGITS))
    return paragraph(
        "An attacker has plain clips and their ciphertexts, knows the method and the geometry, and has no key. The",
        "attacker matches what was moved by its content in all blocks, and decrypts other clips under the same key.",
        f"Film: two clips of the built-in film at {film['geometry']}; each in turn is known, and the other one is",
        f"decrypted; the film is small and stretched. Digits: held-out clips at {digits['geometry']},",
        f"{digits['trials']} trials with other known clips and {digits['others']} clips to decrypt in each. Figures",
        "are means for one key, rounded down.",
    )


def _after(rows: list[Row]) -> str:
    unread = [row["unread"] for row in rows]
    return paragraph(
        "K1 is the order of cubes (of patches, on frames), K2 that of values (of pixels, with Qi et al.). Halves",
        "are the order of the half bytes of LE; reversed shows which of them are inverted. Exact: every value of",
        "the other clips is correct. The control decrypts the same clips under another key with the same estimates,",
        "and counts correct values, rounded up. They are correct by luck, because backgrounds are the same",
        f"everywhere: in the unchanged ciphertext, {_percent(min(unread))} to {_percent(max(unread), math.ceil)}",
        "are. Values that are equal in all known clips cannot be distinguished, and are assigned in their order.",
    )
