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


def interleaved(first: Work, second: Work, *, pairs: int, warm_up: int = 1) -> Ratio:
    """Run both in turn, the order alternating from pair to pair."""
    for _ in range(warm_up):
        first()
        second()
    ones, twos = [], []
    for pair in range(pairs):
        if pair % 2:
            twos.append(seconds(second))
            ones.append(seconds(first))
        else:
            ones.append(seconds(first))
            twos.append(seconds(second))
    ratios = sorted(two / one for one, two in zip(ones, twos, strict=True))
    return Ratio(
        ratio=median(ratios),
        low=ratios[pairs // 4],
        high=ratios[-1 - pairs // 4],
        first=median(ones),
        second=median(twos),
        pairs=pairs,
    )
