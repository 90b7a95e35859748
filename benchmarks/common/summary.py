"""Figures of several processes as one: medians over all rounds, and the spread between processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.common.measure import ratio

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contestant of a case.

    Args:
        ratio: median over all rounds of its time over that of the case's first contestant.
        low: first quartile over all rounds.
        high: third quartile over all rounds.
        lowest: lowest median of a process.
        highest: highest median of a process.
        seconds: median time.
        rounds: number of rounds of all processes.
        processes: number of processes.
    """

    ratio: float
    low: float
    high: float
    lowest: float
    highest: float
    seconds: float
    rounds: int
    processes: int


def summary(processes: Sequence[Figures]) -> Figures:
    """Join what the processes of one case measured.

    Args:
        processes: of each, ``times`` by contestant, the reference first; ``missing`` with the reasons of those that
            cannot run; and anything else that it found.

    Returns:
        ``rows`` by contestant; ``missing`` as far as no process has a time; ``found``, the rest, process by process.
    """
    all_times = [figures.get("times", {}) for figures in processes]
    names = dict.fromkeys(name for times in all_times for name in times)
    missing = {name: why for figures in processes for name, why in figures.get("missing", {}).items()}
    return {
        "rows": {name: asdict(row(name, [times for times in all_times if name in times])) for name in names},
        "missing": {name: why for name, why in missing.items() if name not in names},
        "found": [
            {name: value for name, value in figures.items() if name not in ("times", "missing")}
            for figures in processes
        ],
    }


def row(name: str, processes: Sequence[Mapping[str, list[float]]]) -> Row:
    """Join one contestant's times; each process compares with its own reference."""
    pairs = [(times[next(iter(times))], times[name]) for times in processes]
    middles = [ratio(first, second).ratio for first, second in pairs]
    whole = ratio([s for first, _ in pairs for s in first], [s for _, second in pairs for s in second])
    return Row(
        ratio=whole.ratio,
        low=whole.low,
        high=whole.high,
        lowest=min(middles),
        highest=max(middles),
        seconds=whole.second,
        rounds=whole.pairs,
        processes=len(pairs),
    )


_OUTER: dict[str, Callable[[Any], Any]] = {"low": min, "high": max, "most": max}
"""Figures of which the outermost counts; of others it is the median."""


def medians(figures: Sequence[Any], key: str = "") -> Any:
    """Join figures of one shape, of several processes: each number is the median, and text that of the first."""
    first = figures[0]
    if isinstance(first, dict):
        return {name: medians([one[name] for one in figures], name) for name in first}
    if isinstance(first, list):
        return [medians(column, key) for column in zip(*figures, strict=True)]
    if isinstance(first, str):
        return first
    return _OUTER.get(key, median)(figures)
