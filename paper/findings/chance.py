"""What guessing gets, and when an accuracy lies above it.

Who always names the most frequent class gets its share of the held-out clips. That share is chance here: nobody who
cannot read a clip can expect more. An accuracy lies above chance if so many clips right, or more, come from such
guesses less often than once in 40 times.
"""

from __future__ import annotations

import functools
import math
from collections import Counter
from fractions import Fraction
from typing import Final

from paper.experiments.records import Task

__all__ = ["LABELS", "LUCK", "chance", "limit", "lucky", "quantile"]

LUCK: Final = Fraction(1, 40)
"""Share of the guesses that lie above the limit."""

LABELS: Final = {
    Task.ACTION: "01234567" * 50,
    Task.IDENTITY: (
        "9591903721270557191705341543828473870852017914304406366468687133555031104572556755117011555325056754"
        "6946593149655484531900643131781307529934772212119631583448314496796466927585067507612140883613448156"
        "2304507831295307961183725475805933717053541376613609268605545008881703346117744589735018007319187594"
        "6168292619257201175751456475031514521391032864887793688528290250427537400151132202580197934462779193"
    ),
}
"""The held-out labels in their order, a digit each; a row's clips are the first so many."""


def chance(task: Task, clips: int) -> Fraction:
    """Share of the most frequent class among the first ``clips`` held-out clips."""
    labels = LABELS[task][:clips]
    if len(labels) < clips:
        raise ValueError(f"expected at most {len(labels)} held-out clips, received {clips}")
    return Fraction(max(Counter(labels).values()), clips)


def limit(task: Task, clips: int) -> int:
    """The 97.5 % point of clips right by chance; more than that lies above chance."""
    return quantile(clips, chance(task, clips))


def lucky(tries: int) -> int:
    """How many of so many guessers lie above the limit by luck: the 97.5 % point."""
    return quantile(tries, LUCK)


@functools.cache
def quantile(count: int, probability: Fraction) -> int:
    """The smallest number that a binomial variable does not exceed with probability 97.5 %: exact."""
    hit, all_, below = probability.numerator, probability.denominator, 0
    wanted = (1 - LUCK) * all_**count
    for successes in range(count + 1):
        below += math.comb(count, successes) * hit**successes * (all_ - hit) ** (count - successes)
        if below >= wanted:
            return successes
    raise ValueError(f"expected a probability of 0 to 1, received {probability}")
