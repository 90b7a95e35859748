"""What sections of the page share: reasons of contestants that are missing, and columns of other machines."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.common.tables import interval, number
from benchmarks.records import Measured

_MIN_ROUNDS = 5
"""Fewer, of another machine, are not worth a column."""


def missing(label: str, reason: str, width: int) -> tuple[str, ...]:
    """Row of a contestant without figures: the reason is in the last cell."""
    return (label, *["-"] * (width - 2), reason)


def heads(others: Sequence[Measured], cases: Sequence[str]) -> tuple[str, ...]:
    """Heads of the columns of other machines."""
    return tuple(f"ratio on {other.machine.split(',')[0]}" for other in worth(others, cases))


def cells(others: Sequence[Measured], cases: Sequence[str], case: str, name: str) -> tuple[str, ...]:
    """Ratio and quartiles of one contestant on each of the other machines."""
    rows = (other.cases.get(case, {}).get("rows", {}).get(name) for other in worth(others, cases))
    return tuple(f"{number(row['ratio'], 2)} ({interval(row)})" if row else "-" for row in rows)


def worth(others: Sequence[Measured], cases: Sequence[str]) -> list[Measured]:
    """Other machines with enough rounds of any of the cases."""
    return [other for other in others if any(_rounds(other, case) >= _MIN_ROUNDS for case in cases)]


def _rounds(measured: Measured, case: str) -> int:
    return max((row["rounds"] for row in measured.cases.get(case, {}).get("rows", {}).values()), default=0)
