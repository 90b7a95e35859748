"""The page of the paper's tables: every figure comes from the records, and the verdicts follow from stated rules."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from scipy.stats import binom

from paper.experiments.dataset import CLASSES, held_out
from paper.experiments.known_clips import measuring as known_clips
from paper.experiments.looked_into import ASKED, NO_POSITIONS
from paper.experiments.records import Record, Records, Row, Task, Way, add_record
from paper.experiments.rows import rows
from paper.experiments.small_clips import measuring as small_clips
from paper.findings import published, rules
from paper.findings.chance import LABELS, chance, limit, lucky, quantile
from paper.findings.claims import CLAIMS, Claim, Verdict, judge
from paper.findings.compared import COMPARED, best_for_owner
from paper.findings.keyspaces import THE_PAPERS, key_space_sizes
from paper.findings.seeds import NOT_RUN, SEEDS, Findings, Found, percent, spread
from paper.methods.table import METHODS
from paper.page import writing as page
from paper.page.keys_chart import KEYED, WRONG_FED, write_keys_chart
from paper.page.tradeoff_chart import write_tradeoff_chart

ROOT = Path(__file__).parents[1]
KEYS = 20


def record(*accuracies: float, clips: int = 400, agreement: float | None = None) -> Record:
    there = () if agreement is None else (agreement,) * len(accuracies)
    return Record(
        accuracies=accuracies,
        clips=clips,
        processor_seconds=90.0,
        agreements=there,
        differences=tuple(0.25 for _ in there),
        steps=7,
    )


def complete(seed: int = 0) -> Records:
    """Every row, as if the paper's claims carried over."""
    made = {}
    for row in rows():
        if row.way is Way.UNTRAINED and row.method.startswith("down"):
            made[row] = record(0.6, clips=200)
        elif row.way in (Way.UNTRAINED, Way.OTHER_KEYS):
            made[row] = record(*[0.1] * KEYS, clips=200)
        elif row.way is Way.SCRAMBLED:
            full = row.method == "lcve-video"
            made[row] = record(*[0.9 if full else 0.1] * KEYS, agreement=1.0 if full else 0.125)
        else:
            made[row] = record(TUNED.get(row.method, 0.9))
    return {row: dataclasses.replace(found, processor_seconds=60.0 * (seed + 1)) for row, found in made.items()}


TUNED = {
    **{"down-2": 0.8, "down-4": 0.7, "down-8": 0.6, "down-32": 0.5},
    **{"le-frame": 0.15, "le-video": 0.16, "qi-frame": 0.4, "qi-video": 0.6},
    **{"pixel-video": 0.5, "cube-video": 0.7, "lcve-frame": 0.3, "lcve-video": 0.17},
}


LOOKED = {
    "actions": ["moves left", "moves right"],
    **{
        str(seed): {
            "turned_round": {name: {"right": 0.25, "opposite": 0.5} for name in (*ASKED, NO_POSITIONS)},
            "by_action": {"plain model": [0.125, 0.625 + seed / 8]},
        }
        for seed in SEEDS
    },
}


def findings(by_seed: dict[int, Records]) -> Findings:
    return Findings(by_seed, known_clips.read(), LOOKED, small_clips.read())


def rendered(by_seed: dict[int, Records]) -> str:
    return page.render(findings(by_seed))


@pytest.fixture(scope="module", autouse=True)
def _limits_are_kept() -> Iterator[None]:
    """A page asks for the same few limits tens of thousands of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paper.findings.seeds.limit", functools.cache(limit))
        yield


@pytest.fixture(scope="module")
def whole() -> str:
    """The page of complete records."""
    return rendered({seed: complete(seed) for seed in SEEDS})


@pytest.fixture
def by_seed() -> dict[int, Records]:
    return {seed: complete(seed) for seed in SEEDS}


def changed(by_seed: dict[int, Records], name: str, change: Callable[[Record], Record]) -> dict[int, Records]:
    row = Row.parse(name)
    return {seed: {**records, row: change(records[row])} for seed, records in by_seed.items()}


def with_accuracy(by_seed: dict[int, Records], name: str, accuracy: float) -> dict[int, Records]:
    return changed(
        by_seed, name, lambda old: dataclasses.replace(old, accuracies=tuple(accuracy for _ in old.accuracies))
    )


def claim(start: str) -> Claim:
    (found,) = [one for one in CLAIMS if one.text.startswith(start)]
    return found


def test_the_page_is_made_of_the_records_beside_it() -> None:
    assert (ROOT / "docs/evidence/paper.md").read_text(encoding="utf-8") == page.render(page.committed())


def test_pictures_of_the_page_are_there() -> None:
    text = page.render(page.committed())
    for name in re.findall(r"\((paper[\w-]*\.(?:svg|png))\)", text):
        assert (ROOT / "docs/evidence" / name).is_file(), name


def test_rendering_is_deterministic_and_does_not_mind_the_order_of_seeds(by_seed: dict[int, Records]) -> None:
    backwards = {seed: dict(reversed(by_seed[seed].items())) for seed in reversed(SEEDS)}
    assert rendered(by_seed) == rendered(by_seed) == rendered(backwards)


def test_without_records_everything_that_runs_is_not_run() -> None:
    text = rendered({})
    assert not any(judge(one, Findings({})).verdict is Verdict.NO for one in CLAIMS)
    assert text.count(NOT_RUN) > len(CLAIMS) + 3 * len(COMPARED)
    for row in (*KEYED[Task.ACTION], *WRONG_FED[Task.ACTION]):
        assert Findings({}).row(row) is None
    assert ".svg" not in text
    assert rendered({0: {}}) == text


def test_a_complete_page_has_nothing_that_was_not_run(by_seed: dict[int, Records]) -> None:
    text = rendered(by_seed)
    assert NOT_RUN not in text.lower()
    assert "seeds]" not in text


@pytest.mark.parametrize("row", list(rows()), ids=str)
def test_every_row_shows_on_the_page(by_seed: dict[int, Records], whole: str, row: Row) -> None:
    """A figure that changes shows, and so does a row that is missing."""
    other = with_accuracy(by_seed, str(row), 0.7775)
    less = {seed: {one: found for one, found in records.items() if one != row} for seed, records in by_seed.items()}
    drawn, without = rendered(other), rendered(less)
    assert "77.8" in drawn
    assert "77.8" not in whole
    assert NOT_RUN in without.lower()


def test_some_seeds_only_are_named(by_seed: dict[int, Records]) -> None:
    text = rendered({1: by_seed[1]})
    assert "90.0 [1 of 3 seeds]" in text
    assert "| 0 | 0 | not run |" in text
    assert f"| 1 | {len(by_seed[1])} |" in text


def test_differences_and_agreements_show(by_seed: dict[int, Records]) -> None:
    other = changed(
        by_seed,
        "action/lcve-video/scrambled",
        lambda old: dataclasses.replace(old, agreements=(0.9975,) * KEYS, differences=(0.0123,) * KEYS),
    )
    text = rendered(other)
    assert "the same prediction for 99.8 % of the clips or more" in " ".join(text.split())
    assert "every prediction is the same" in " ".join(rendered(by_seed).split())
    assert "of a logit is 0.012" in " ".join(text.split())


def test_what_lies_behind_it_shows(by_seed: dict[int, Records]) -> None:
    text = rendered(by_seed)
    assert f"| {NO_POSITIONS} | 25.0 | 50.0 |" in text
    assert "| row | moves left | moves right |" in text
    assert "| plain model | 12.5 | 75.0 |" in text
    assert NOT_RUN in page.render(Findings(by_seed, known_clips.read()))


def test_mean_and_range_are_over_keys_and_seeds() -> None:
    found = Found(task=Task.ACTION, records=(record(0.1, 0.2), record(0.3, 0.8)))
    assert spread(found) == "35.0 (10.0 to 80.0) [2 of 3 seeds]"
    assert found.values == (0.1, 0.2, 0.3, 0.8)


def test_halves_round_up_whatever_a_sum_of_floats_makes_of_them() -> None:
    assert percent((0.915 + 0.92 + 0.8725) / 3) == percent(0.9025) == "90.3"
    assert percent(1 / 3) == "33.3"


def test_the_summary_holds_every_claim_once(by_seed: dict[int, Records]) -> None:
    text = rendered(by_seed)
    summary = " ".join(text.split("## In short")[1].split("\n## ")[0].split())
    for one in CLAIMS:
        assert summary.count(f"- {one.text}:") == 1


# Chance.


def test_labels_are_those_of_the_held_out_clips() -> None:
    labels = held_out().labels
    for task in Task:
        assert "".join(map(str, labels[task])) == LABELS[task]
        assert len(set(LABELS[task])) == CLASSES[task]


def test_chance_is_the_share_of_the_most_frequent_class() -> None:
    assert chance(Task.ACTION, 400) == chance(Task.ACTION, 200) == Fraction(1, 8)
    assert chance(Task.IDENTITY, 200) == Fraction(30, 200)
    assert chance(Task.IDENTITY, 400) == Fraction(55, 400)
    with pytest.raises(ValueError, match="at most 400"):
        chance(Task.ACTION, 401)


@pytest.mark.parametrize("count", [1, 3, 20, 60, 200, 400])
@pytest.mark.parametrize("probability", [Fraction(1, 40), Fraction(1, 8), Fraction(3, 20), Fraction(11, 80)])
def test_the_point_of_the_binomial_is_scipys(count: int, probability: Fraction) -> None:
    point = quantile(count, probability)
    assert binom.cdf(point, count, float(probability)) >= 0.975 - 1e-12
    assert point == 0 or binom.cdf(point - 1, count, float(probability)) < 0.975


def test_a_row_is_above_chance_if_more_keys_are_than_luck_explains() -> None:
    at = limit(Task.ACTION, 200) / 200
    above = at + 1 / 200

    def found(count: int) -> Found:
        values = [above] * count + [at] * (KEYS - count)
        return Found(task=Task.ACTION, records=(record(*values, clips=200),))

    assert found(lucky(KEYS)).above == lucky(KEYS)
    assert not found(lucky(KEYS)).above_chance
    assert found(lucky(KEYS) + 1).above_chance


def test_who_always_names_the_most_frequent_class_is_at_chance() -> None:
    for task in Task:
        guess = float(chance(task, 200))
        assert not Found(task=task, records=(record(*[guess] * KEYS, clips=200),)).above_chance


# Claims.


def test_all_claims_can_carry_over_together(by_seed: dict[int, Records]) -> None:
    by_seed = with_accuracy(by_seed, "identity/lcve-video/fine-tuned", 0.1)
    by_seed = with_accuracy(by_seed, "identity/lcve-video/free", 0.1)
    verdicts = {one.text: judge(one, Findings(by_seed)).verdict for one in CLAIMS}
    assert set(verdicts.values()) == {Verdict.YES}, verdicts


@pytest.mark.parametrize(
    ("start", "row", "accuracy"),
    [
        ("The plain model without the key", "action/lcve-video/untrained", 0.3),
        ("The scrambled model alone", "action/plain/scrambled", 0.3),
        ("A model fine-tuned on LCVE clips", "action/lcve-video/fine-tuned", 0.88),
        ("LE degrades most", "action/le-video/fine-tuned", 0.5),
        ("LE degrades most", "action/lcve-video/fine-tuned", 0.14),
        ("Qi et al. lies between", "action/qi-frame/fine-tuned", 0.1),
        ("Qi et al. lies between", "action/qi-video/fine-tuned", 0.95),
        ("Qi et al. is easier", "action/qi-video/fine-tuned", 0.3),
        ("Pixel or cube shuffling", "action/lcve-video/fine-tuned", 0.6),
        ("Pixel or cube shuffling", "action/cube-video/fine-tuned", 0.95),
        ("Downsampling trades", "action/down-8/fine-tuned", 0.8),
        ("Downsampling trades", "identity/down-32/fine-tuned", 0.7),
        ("Identity falls to chance under LCVE for", "identity/lcve-video/untrained", 0.4),
        ("Identity falls to chance under LCVE also for an attacker who is", "identity/lcve-video/fine-tuned", 0.3),
        ("Identity falls to chance under LCVE also for an attacker who starts", "identity/lcve-video/free", 0.3),
        ("LCVE + ViT Scrambling beats downsampling in action and in privacy if", "identity/down-32/untrained", 0.05),
        ("LCVE + ViT Scrambling beats downsampling in action and in privacy if", "action/down-2/fine-tuned", 0.95),
        (
            "LCVE + ViT Scrambling beats downsampling in action and in privacy also",
            "identity/lcve-video/fine-tuned",
            0.6,
        ),
    ],
)
def test_a_claim_that_does_not_carry_over(by_seed: dict[int, Records], start: str, row: str, accuracy: float) -> None:
    by_seed = with_accuracy(by_seed, "identity/lcve-video/fine-tuned", 0.1)
    by_seed = with_accuracy(by_seed, "identity/lcve-video/free", 0.1)
    other = with_accuracy(by_seed, row, accuracy)
    judged = judge(claim(start), Findings(other))
    assert judge(claim(start), Findings(by_seed)).verdict is Verdict.YES
    assert judged.verdict is Verdict.NO
    assert f"{100 * accuracy:.1f}" in judged.here
    assert f"{claim(start).text}: {judged.here}." in _section(rendered(other), "**Does not carry over**")


@pytest.mark.parametrize(
    ("start", "row"),
    [
        ("LE degrades most", "action/le-video/fine-tuned"),
        ("Qi et al. lies between", "action/le-frame/fine-tuned"),
        ("Qi et al. is easier", "action/qi-frame/fine-tuned"),
        ("Pixel or cube shuffling", "action/lcve-video/fine-tuned"),
    ],
)
def test_an_order_that_one_seed_turns_round_does_not_carry_over(
    by_seed: dict[int, Records], start: str, row: str
) -> None:
    mixed = {**by_seed, 1: {**by_seed[1], Row.parse(row): record(0.88)}}
    judged = judge(claim(start), Findings(mixed))
    assert judge(claim(start), Findings(by_seed)).verdict is Verdict.YES
    assert judged.verdict is Verdict.NO
    assert judged.here.endswith("so in 2 of 3 seeds")


def test_one_prediction_under_one_key_is_enough_to_be_inexact(by_seed: dict[int, Records]) -> None:
    start = "LCVE + ViT Scrambling gives"
    other = changed(
        by_seed,
        "action/lcve-video/scrambled",
        lambda old: dataclasses.replace(old, agreements=(*old.agreements[1:], 399 / 400)),
    )
    assert judge(claim(start), Findings(by_seed)).verdict is Verdict.YES
    assert judge(claim(start), Findings(other)).verdict is Verdict.NO


@pytest.mark.parametrize("one", [one for one in CLAIMS if one.rows], ids=lambda one: one.text)
def test_a_claim_with_a_missing_row_is_not_decided(by_seed: dict[int, Records], one: Claim) -> None:
    for name in one.rows:
        gone = Row.parse(name)
        less = {seed: {row: found for row, found in by_seed[seed].items() if row != gone} for seed in SEEDS}
        assert judge(one, Findings(less)).verdict is Verdict.NOT_RUN
        fewer = {**by_seed, 1: {row: found for row, found in by_seed[1].items() if row != gone}}
        assert len(one.rows) == 1 or judge(one, Findings(fewer)).verdict is Verdict.NOT_RUN


def test_claims_ask_for_rows_that_run() -> None:
    assert {Row.parse(name) for one in CLAIMS for name in one.rows} <= set(rows())


def test_half_of_the_way_is_counted_from_chance() -> None:
    assert rules.less_than_half(0.49, 0.9, 0.1)
    assert not rules.less_than_half(0.5, 0.9, 0.1)


def test_the_owner_takes_the_better_of_both_ways(by_seed: dict[int, Records]) -> None:
    def best(records: dict[int, Records]) -> tuple[Way, float] | None:
        found = best_for_owner(Findings(records), "down-2")
        return None if found is None else (found[0], round(found[1].mean, 6))

    assert best(by_seed) == (Way.FINE_TUNED, 0.8)
    assert best(with_accuracy(by_seed, "action/down-2/untrained", 0.85)) == (Way.UNTRAINED, 0.85)
    assert best({}) is None


# The paper's figures.


def test_table_1_of_the_paper_is_what_arithmetic_gives() -> None:
    sizes = key_space_sizes(THE_PAPERS)
    assert [(row.method, row.level) for row in published.KEY_SPACES] == list(sizes)
    assert [row.size for row in published.KEY_SPACES] == list(sizes.values())


def test_tables_of_the_paper_agree_with_one_another() -> None:
    for on, row in (("", "plain/trained"), ("PC", "lcve-video/fine-tuned"), ("PCS", "lcve-video/scrambled")):
        assert published.ABLATION[on] == published.COMPARISON[row]
    assert published.LARGE["lcve-video/scrambled"] == published.LARGE["plain/trained"]
    for figures in published.COMPARISON.values():
        assert len(figures) == len(published.COMPARISON_DATASETS)


def test_published_rows_name_methods_that_exist() -> None:
    methods = {"plain", *METHODS}
    for name in (*published.COMPARISON, *published.LARGE):
        method, way = name.split("/")
        assert method in methods
        assert Way(way)
    assert set(published.PRIVACY) <= methods


# Charts and files.


@pytest.mark.parametrize("write", [write_tradeoff_chart, write_keys_chart])
def test_the_same_records_give_the_same_chart(
    by_seed: dict[int, Records], tmp_path: Path, write: Callable[[Findings, Path], None]
) -> None:
    for name in ("one.svg", "two.svg"):
        write(Findings(by_seed), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    write(Findings(with_accuracy(by_seed, "identity/lcve-video/untrained", 0.35)), tmp_path / "other.svg")
    assert (tmp_path / "one.svg").read_bytes() != (tmp_path / "other.svg").read_bytes()


def test_charts_name_their_methods(by_seed: dict[int, Records], tmp_path: Path) -> None:
    write_tradeoff_chart(Findings(by_seed), tmp_path / "one.svg")
    write_keys_chart(Findings(by_seed), tmp_path / "two.svg")
    for label in ("LCVE + ViT Scrambling", "Downsampling 32×", "Qi et al., frame", "LE, video", "Plain video"):
        assert label in (tmp_path / "one.svg").read_text()
    for label in ("LCVE, frame", "LCVE, video", "scrambled, plain clips"):
        assert label in (tmp_path / "two.svg").read_text()


def test_the_page_is_written_with_charts_of_what_is_there(
    by_seed: dict[int, Records], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "write_frames", Path.touch)
    monkeypatch.setattr(page, "write_opened", Path.touch)
    monkeypatch.setattr(page, "committed", lambda: Findings({}))
    page.write_page(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paper-frames.png", "paper-opened.png", "paper.md"]
    monkeypatch.setattr(page, "committed", lambda: findings(by_seed))
    page.write_page(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "paper-frames.png",
        "paper-keys.svg",
        "paper-opened.png",
        "paper.md",
        "paper.svg",
    ]
    assert (tmp_path / "paper.md").read_text(encoding="utf-8") == rendered(by_seed)


def test_records_that_were_written_render_as_those_in_memory(by_seed: dict[int, Records], tmp_path: Path) -> None:
    from paper.experiments.records import read_records

    for row, found in by_seed[0].items():
        add_record(0, row, found, tmp_path)
    assert rendered({0: read_records(0, tmp_path)}) == rendered({0: by_seed[0]})


def _section(text: str, heading: str) -> str:
    return " ".join(text.split(heading)[1].split("\n**")[0].split("\n## ")[0].split())
