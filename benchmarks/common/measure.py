"""Times of work that takes turns: the machine's moods meet every side alike."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]
Times = dict[str, list[float]]

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


@dataclass(frozen=True, kw_only=True)
class Turns:
    """How works take turns in one process.

    Args:
        rounds: number of rounds.
        process: number of the process; each has orders of its own, the same whenever it runs.
    """

    rounds: int
    process: int = 1

    def order(self, names: Iterable[str], turn: int) -> list[str]:
        """Draw an order for each even round; the odd round after it is its reverse."""
        there = list(names)
        drawn = random.Random(f"{self.process}/{turn // 2}").sample(there, len(there))
        return drawn[::-1] if turn % 2 else drawn

    def take(
        self, works: Mapping[str, Work], *, warm_up: int = 1, pause: float = 0.0, afterwards: Work = nothing
    ) -> Times:
        """Return the seconds of every work in every round, in the order of ``works``.

        ``afterwards`` cleans up behind every work, outside of its time.
        """
        for turn in range(warm_up):
            for name in self.order(works, turn):
                works[name]()
                afterwards()
        times: Times = {name: [] for name in works}
        for turn in range(self.rounds):
            for name in self.order(works, turn):
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


def interleaved(first: Work, second: Work, *, pairs: int, warm_up: int = 1, pause: float = 0.0) -> Ratio:
    """Two works in turn, in orders that change from pair to pair."""
    times = Turns(rounds=pairs).take({"first": first, "second": second}, warm_up=warm_up, pause=pause)
    return ratio(times["first"], times["second"])
