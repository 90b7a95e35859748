"""Medians and ratios of work that takes turns: the machine's moods meet every side alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]

PAUSE = 0.02
"""Seconds before each inference: the idle threads of one runtime go on spinning for a while."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Medians over interleaved pairs.

    Args:
        ratio: median of the pairs' ratios, second over first.
        low: first quartile of the ratios.
        high: third quartile of the ratios.
        first: median seconds of the first.
        second: median seconds of the second.
        pairs: number of pairs.
    """

    ratio: float
    low: float
    high: float
    first: float
    second: float
    pairs: int


def seconds(work: Work) -> float:
    """Time one run."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def nothing() -> None:
    """Do nothing."""


def take_turns(
    works: Mapping[str, Work], *, rounds: int, warm_up: int = 1, pause: float = 0.0, afterwards: Work = nothing
) -> dict[str, list[float]]:
    """Seconds of every work in every round; the one that begins moves on from round to round.

    ``afterwards`` cleans up behind every work, outside of its time.
    """
    for _ in range(warm_up):
        for work in works.values():
            work()
            afterwards()
    names = list(works)
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            times[name].append(seconds(works[name]))
            afterwards()
    return times


def ratio(first: list[float], second: list[float]) -> Ratio:
    """Second over first, round by round."""
    ratios = sorted(two / one for one, two in zip(first, second, strict=True))
    return Ratio(
        ratio=median(ratios),
        low=ratios[len(ratios) // 4],
        high=ratios[-1 - len(ratios) // 4],
        first=median(first),
        second=median(second),
        pairs=len(ratios),
    )


def interleaved(
    first: Work, second: Work, *, pairs: int, warm_up: int = 1, pause: float = 0.0, afterwards: Work = nothing
) -> Ratio:
    """Two works in turn, the order alternating from pair to pair."""
    works = {"first": first, "second": second}
    times = take_turns(works, rounds=pairs, warm_up=warm_up, pause=pause, afterwards=afterwards)
    return ratio(times["first"], times["second"])
