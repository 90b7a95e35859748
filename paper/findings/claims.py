"""What the paper claims, and whether it carries over: ``CLAIMS``, each with a rule that the records decide.

Source: LCVE paper, sections 3.4 and 5.1 to 5.3, Tables 1, 3, 4, 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from paper.experiments.records import Row
from paper.findings import published, rules
from paper.findings.seeds import NOT_RUN, SEEDS, Findings, Found

__all__ = ["CLAIMS", "Claim", "Judged", "Verdict", "judge"]

_FACTORS: Final = (2, 4, 8, 32)


class Verdict(StrEnum):
    """Whether a claim carries over to our data."""

    YES = "yes"
    NO = "no"
    NOT_RUN = NOT_RUN


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper.

    Args:
        text: the claim, in our words.
        paper: where it stands, and its figures.
        rule: what has to hold here.
        rows: names of the rows that decide.
        check: takes what these rows found; gives whether the rule holds, and our figures.
    """

    text: str
    paper: str
    rule: str
    rows: tuple[str, ...]
    check: Callable[[Sequence[Found]], rules.Outcome]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A claim with its verdict and our figures."""

    claim: Claim
    verdict: Verdict
    here: str


def judge(claim: Claim, findings: Findings) -> Judged:
    """Decide a claim by its rule; a claim with a missing row, or rows of which some have more seeds, is not decided."""
    found = [there for there in (findings.row(Row.parse(name)) for name in claim.rows) if there is not None]
    if len(found) < len(claim.rows) or len({len(row.records) for row in found}) > 1:
        return Judged(claim=claim, verdict=Verdict.NOT_RUN, here=NOT_RUN)
    holds, here = claim.check(found)
    seeds = len(found[0].records) if found else len(SEEDS)
    few = f" [{seeds} of {len(SEEDS)} seeds]" if seeds < len(SEEDS) else ""
    return Judged(claim=claim, verdict=Verdict.YES if holds else Verdict.NO, here=here + few)


def _given(table: Mapping[str, Sequence[float]], row: str, of: str = "") -> str:
    """A published row; with ``of``, each figure with the one that it is compared with."""
    figures = [f"{value}" for value in table[row]]
    return ", ".join(
        [f"{value} of {whole}" for value, whole in zip(figures, table[of], strict=True)] if of else figures
    )


def _figures(figures: Sequence[float]) -> str:
    return ", ".join(map(str, figures))


def _halves_of_the_paper() -> str:
    """On how many of the paper's data sets the rule of a half holds for the paper's own figures."""
    tables: tuple[tuple[Sequence[str], Mapping[str, Sequence[float]]], ...] = (
        (published.COMPARISON_DATASETS, published.COMPARISON),
        (published.LARGE_DATASETS, published.LARGE),
    )
    held = [
        rules.less_than_half(tuned, plain, 100 / published.CLASSES[name])
        for names, table in tables
        for name, tuned, plain in zip(names, table["lcve-video/fine-tuned"], table["plain/trained"], strict=True)
    ]
    return f"{sum(held)} of its {len(held)} data sets"


def _one_class() -> str:
    return ", ".join(f"{100 / classes:.1f}" for classes in published.CLASSES.values())


def _tuned(*methods: str) -> tuple[str, ...]:
    return tuple(f"action/{method}/fine-tuned" for method in methods)


def _downsampled(task: str, way: str = "fine-tuned") -> tuple[str, ...]:
    return tuple(f"{task}/down-{factor}/{way}" for factor in _FACTORS)


def _column(place: int) -> list[float]:
    return [figures[place] for method, figures in published.PRIVACY.items() if method != "lcve-video"]


def _privacy(method: str, place: int) -> float:
    return published.PRIVACY[method][place]


def _best_rows(attacker: str) -> tuple[str, ...]:
    lcve = ("action/lcve-video/scrambled", f"identity/lcve-video/{attacker}")
    return (*lcve, *_downsampled("action"), *_downsampled("identity", attacker))


_OTHERS: Final = ("qi-frame", "qi-video", "pixel-video", "cube-video", "lcve-video")
_CHANCE_RULE: Final = "not more keys above chance than luck explains"
_BEST_RULE: Final = (
    f"action at least that of every factor, less {100 * rules.RISE:.0f} point; identity below that of every factor"
)
_PAPERS_BEST: Final = (
    f"Table 5: action {_privacy('lcve-video', 0)}, actor {_privacy('lcve-video', 1)}; downsampling: "
    f"action {_figures(_column(0)[1:])}, actor {_figures(_column(1)[1:])}"
)

CLAIMS: Final = (
    Claim(
        text="The ten key spaces are as large as Table 1 says",
        paper="Table 1",
        rule="all ten figures are the same, to two digits",
        rows=(),
        check=rules.key_spaces,
    ),
    Claim(
        text="LCVE + ViT Scrambling gives the predictions of the plain model on plain clips",
        paper=f"Tables 3, 4: {_given(published.COMPARISON, 'lcve-video/scrambled', 'plain/trained')}; "
        f"{_given(published.LARGE, 'lcve-video/scrambled', 'plain/trained')}",
        rule="every prediction is the same under every key: the least agreement is 1",
        rows=("action/lcve-video/scrambled", "action/plain/trained"),
        check=rules.exact,
    ),
    Claim(
        text="The plain model without the key is at chance on the actions of LCVE clips",
        paper=f"Tables 3, 4: {_given(published.COMPARISON, 'lcve-video/untrained')}; "
        f"{_given(published.LARGE, 'lcve-video/untrained')}; one class in all is {_one_class()}",
        rule=_CHANCE_RULE,
        rows=("action/lcve-video/untrained",),
        check=rules.at_chance,
    ),
    Claim(
        text="The scrambled model alone is useless on plain clips",
        paper="Table 6: " + _figures(published.ABLATION["S"]),
        rule=_CHANCE_RULE,
        rows=("action/plain/scrambled",),
        check=rules.at_chance,
    ),
    Claim(
        text="A model fine-tuned on LCVE clips stays far below the plain one",
        paper=f"Tables 3, 4: {_given(published.COMPARISON, 'lcve-video/fine-tuned', 'plain/trained')}; "
        f"{_given(published.LARGE, 'lcve-video/fine-tuned', 'plain/trained')}; by our rule, {_halves_of_the_paper()}",
        rule="it comes less than half of the way from chance to plain",
        rows=("action/lcve-video/fine-tuned", "action/plain/fine-tuned"),
        check=rules.far_below,
    ),
    Claim(
        text="LE degrades most",
        paper=f"Table 3: {_given(published.COMPARISON, 'le-frame/fine-tuned')} (frame); "
        f"{_given(published.COMPARISON, 'le-video/fine-tuned')} (video)",
        rule="fine-tuned, LE is below every other encryption of the paper at both levels, in every seed",
        rows=_tuned("le-frame", "le-video", *_OTHERS),
        check=rules.le_is_lowest,
    ),
    Claim(
        text="Qi et al. lies between LE and plain",
        paper=f"Table 3: {_given(published.COMPARISON, 'qi-frame/fine-tuned')} (frame); "
        f"{_given(published.COMPARISON, 'qi-video/fine-tuned')} (video)",
        rule="fine-tuned, it does so at both levels, in every seed",
        rows=(*_tuned("le-frame", "qi-frame", "le-video", "qi-video"), "action/plain/fine-tuned"),
        check=rules.in_between,
    ),
    Claim(
        text="Qi et al. is easier to learn at the video level than at the frame level",
        paper=f"Table 3: {_given(published.COMPARISON, 'qi-video/fine-tuned')} against "
        f"{_given(published.COMPARISON, 'qi-frame/fine-tuned')}",
        rule="fine-tuned, it is higher at the video level in every seed",
        rows=_tuned("qi-video", "qi-frame"),
        check=rules.video_is_easier,
    ),
    Claim(
        text="Pixel or cube shuffling alone costs accuracy, both cost more",
        paper="Table 6: " + "; ".join(_figures(published.ABLATION[on]) for on in ("P", "C", "PC")),
        rule="fine-tuned, both are below each alone, and each alone is below plain, in every seed",
        rows=(*_tuned("lcve-video", "pixel-video", "cube-video"), "action/plain/fine-tuned"),
        check=rules.both_cost_more,
    ),
    Claim(
        text="Downsampling trades accuracy for privacy",
        paper="Table 5, KTH: "
        + "; ".join(f"{name} {_figures(_column(place))}" for place, name in ((0, "action"), (1, "actor"))),
        rule=f"with models fine-tuned on it, from factor to factor neither accuracy rises by more than "
        f"{100 * rules.RISE:.0f} point, and each falls by {100 * rules.FALL:.0f} points or more in all",
        rows=(
            "action/plain/fine-tuned",
            *_downsampled("action"),
            "identity/plain/fine-tuned",
            *_downsampled("identity"),
        ),
        check=rules.trade,
    ),
    Claim(
        text="Identity falls to chance under LCVE for an attacker who has seen no encrypted clips",
        paper=f"Table 5: {_privacy('plain', 1)} to {_privacy('lcve-video', 1)} (KTH), {_privacy('plain', 3)} to "
        f"{_privacy('lcve-video', 3)} (IPN, two classes)",
        rule=_CHANCE_RULE,
        rows=("identity/lcve-video/untrained",),
        check=rules.at_chance,
    ),
    Claim(
        text="Identity falls to chance under LCVE also for an attacker who is fine-tuned on encrypted clips",
        paper="not tried in the paper",
        rule=_CHANCE_RULE,
        rows=("identity/lcve-video/fine-tuned",),
        check=rules.at_chance,
    ),
    Claim(
        text="Identity falls to chance under LCVE also for an attacker who starts from random weights on such clips",
        paper="not tried in the paper",
        rule=_CHANCE_RULE,
        rows=("identity/lcve-video/free",),
        check=rules.at_chance,
    ),
    Claim(
        text="LCVE + ViT Scrambling beats downsampling in action and in privacy if no attacker has seen changed clips",
        paper=_PAPERS_BEST,
        rule=_BEST_RULE,
        rows=_best_rows("untrained"),
        check=rules.best_of_both,
    ),
    Claim(
        text="LCVE + ViT Scrambling beats downsampling in action and in privacy also if all attackers are fine-tuned",
        paper="not tried in the paper",
        rule=_BEST_RULE,
        rows=_best_rows("fine-tuned"),
        check=rules.best_of_both,
    ),
)
"""In the order of the page."""
