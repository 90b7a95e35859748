"""The rules by which records decide a claim: each takes what rows found; gives whether it holds, and our figures.

Rows of a rule come in the order of its docstring; accuracies are means over all keys of all seeds,
and an order of accuracies has to hold in every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from paper.findings import published
from paper.findings.chance import lucky
from paper.findings.keyspaces import THE_PAPERS, key_space_sizes
from paper.findings.seeds import Found, agreement, percent, spread

__all__ = [
    "FALL",
    "RISE",
    "Outcome",
    "at_chance",
    "best_of_both",
    "both_cost_more",
    "exact",
    "far_below",
    "in_between",
    "key_spaces",
    "le_is_lowest",
    "less_than_half",
    "trade",
    "video_is_easier",
]

RISE: Final = 0.01
"""What :func:`trade` and :func:`best_of_both` overlook: a rise, or a lead, of no more than a point."""
FALL: Final = 0.05
"""What :func:`trade` asks of both accuracies from plain to the largest factor."""

Outcome = tuple[bool, str]


def key_spaces(_: Sequence[Found]) -> Outcome:
    """All figures of Table 1 are those that arithmetic gives."""
    sizes = key_space_sizes(THE_PAPERS)
    same = sum(sizes[row.method, row.level] == row.size for row in published.KEY_SPACES)
    return same == len(published.KEY_SPACES), f"{same} of {len(published.KEY_SPACES)} figures are the same"


def exact(found: Sequence[Found]) -> Outcome:
    """Scrambled, plain: every prediction is the same."""
    scrambled, plain = found
    least, most = min(scrambled.agreements, default=0.0), max(scrambled.differences, default=float("nan"))
    return least == 1.0, (
        f"{percent(scrambled.mean)} and {percent(plain.mean)}; {agreement(scrambled)}; logits differ by {most:.1g} at "
        "most"
    )


def at_chance(found: Sequence[Found]) -> Outcome:
    """One row: not more values above chance than luck explains."""
    (row,) = found
    return not row.above_chance, (
        f"mean {spread(row)}, chance {percent(row.chance)}; above chance in {row.above} of {len(row.values)}, "
        f"where luck explains {lucky(len(row.values))}"
    )


def far_below(found: Sequence[Found]) -> Outcome:
    """Fine-tuned, plain: less than half of the way."""
    tuned, plain = found
    return less_than_half(tuned.mean, plain.mean, plain.chance), (
        f"{percent(tuned.mean)} of {percent(plain.mean)}, chance {percent(plain.chance)}"
    )


def less_than_half(tuned: float, plain: float, chance: float) -> bool:
    """Whether an accuracy lies less than half of the way from chance to plain."""
    return tuned - chance < (plain - chance) / 2


def le_is_lowest(found: Sequence[Found]) -> Outcome:
    """LE at both levels, then others: both are below all others."""
    held = _seeds(found, lambda values: max(values[:2]) < min(values[2:]))
    means = [row.mean for row in found]
    return all(held), (
        f"LE {_list(means[:2])} (frame, video); the lowest of the others {percent(min(means[2:]))}; {_so(held)}"
    )


def in_between(found: Sequence[Found]) -> Outcome:
    """LE and Qi et al. on frames, on videos, then plain: in this order."""

    def holds(values: Sequence[float]) -> bool:
        le_frame, qi_frame, le_video, qi_video, plain = values
        return le_frame < qi_frame < plain and le_video < qi_video < plain

    held = _seeds(found, holds)
    le_frame, qi_frame, le_video, qi_video, plain = (row.mean for row in found)
    frame, video = _list([le_frame, qi_frame, plain]), _list([le_video, qi_video, plain])
    return all(held), f"LE, Qi et al., plain: {frame} (frame); {video} (video); {_so(held)}"


def video_is_easier(found: Sequence[Found]) -> Outcome:
    """Video, frame."""
    held = _seeds(found, lambda values: values[0] > values[1])
    video, frame = found
    return all(held), f"{percent(video.mean)} (video), {percent(frame.mean)} (frame); {_so(held)}"


def both_cost_more(found: Sequence[Found]) -> Outcome:
    """Both shuffles, pixels alone, cubes alone, plain."""
    held = _seeds(found, lambda values: values[0] < min(values[1:3]) and max(values[1:3]) < values[3])
    both, pixel, cube, plain = (row.mean for row in found)
    return all(held), (
        f"plain {percent(plain)}, cubes {percent(cube)}, pixels {percent(pixel)}, both {percent(both)}; {_so(held)}"
    )


def trade(found: Sequence[Found]) -> Outcome:
    """Actions, then identities, each from plain over all factors: both fall."""
    half = len(found) // 2
    lines = [[row.mean for row in found[:half]], [row.mean for row in found[half:]]]
    holds = all(
        line[0] - line[-1] >= FALL and all(right - left <= RISE for left, right in pairwise(line)) for line in lines
    )
    return holds, f"action {_list(lines[0])}; identity {_list(lines[1])}"


def best_of_both(found: Sequence[Found]) -> Outcome:
    """LCVE's action and identity, then actions and identities of all factors."""
    action, identity = found[0].mean, found[1].mean
    half = 1 + len(found) // 2
    actions, identities = ([row.mean for row in part] for part in (found[2:half], found[half:]))
    return action >= max(actions) - RISE and identity < min(identities), (
        f"LCVE: action {percent(action)}, identity {percent(identity)}; downsampling: action {_list(actions)}, "
        f"identity {_list(identities)}"
    )


def _list(shares: Sequence[float]) -> str:
    return ", ".join(map(percent, shares))


def _seeds(found: Sequence[Found], holds: Callable[[Sequence[float]], bool]) -> list[bool]:
    """Whether it holds, seed by seed: an order of means that a single seed turns round is no finding."""
    accuracies = ([record.accuracy for record in row.records] for row in found)
    return [holds(values) for values in zip(*accuracies, strict=True)]


def _so(held: Sequence[bool]) -> str:
    return f"so in {sum(held)} of {len(held)} seeds"
