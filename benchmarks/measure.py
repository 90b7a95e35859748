"""Ratios of paired measurements: the machine's moods meet both sides alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

Work = Callable[[], object]


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


def interleaved(first: Work, second: Work, *, pairs: int, warm_up: int = 1, afterwards: Work = lambda: None) -> Ratio:
    """Run both in turn, the order alternating from pair to pair; ``afterwards`` runs untimed after each."""
    for _ in range(warm_up):
        first()
        afterwards()
        second()
        afterwards()
    ones, twos = [], []
    for pair in range(pairs):
        for work, times in ((second, twos), (first, ones)) if pair % 2 else ((first, ones), (second, twos)):
            times.append(seconds(work))
            afterwards()
    return ratio_of(ones, twos)


def ratio_of(ones: list[float], twos: list[float]) -> Ratio:
    """The ratio of paired times, seconds."""
    pairs = len(ones)
    ratios = sorted(two / one for one, two in zip(ones, twos, strict=True))
    return Ratio(
        ratio=median(ratios),
        low=ratios[pairs // 4],
        high=ratios[-1 - pairs // 4],
        first=median(ones),
        second=median(twos),
        pairs=pairs,
    )
