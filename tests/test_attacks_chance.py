"""What chance reaches on the clip and geometry at hand: no guess counts as recovered, and no flat clip is an alarm."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from lcve_deploy.attacks import running
from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import ATTACKS
from lcve_deploy.attacks.chance import MAX_GUESS, few_orders, is_above_chance
from lcve_deploy.attacks.coefficients.frequencies import quantised
from lcve_deploy.attacks.coefficients.planted import random_truth_with_signs, reordered, scrambled_embedding
from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.jigsaw import solve_jigsaw
from lcve_deploy.attacks.pictures import decrypted
from lcve_deploy.attacks.planted.cases import encrypted, random_truth, scrambled
from lcve_deploy.attacks.report import AuditReport, judge
from lcve_deploy.attacks.running import AttackResult, run_attacks
from lcve_deploy.attacks.score import Recovery, Space, guess_probability, score_order
from lcve_deploy.attacks.similarity import compare_clips
from lcve_deploy.clips import Scheme
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import sinusoid_table
from lcve_deploy.samples import real_clips

WIDTH = 24
STEP = 16.0
INVERSIONS = ("minimum-norm", "likeliest")
GEOMETRIES = {
    "one pixel": "1x1x1x3/1x1x1",
    "two cubes of one pixel": "2x1x1x3/1x1x1",
    "two cubes": "4x2x2x1/2x2x2",
    "three cubes": "1x2x6x3/1x2x2",
    "four cubes": "1x8x8x1/1x4x4",
}
"""Geometries of little to attack, by what is odd about them."""


@pytest.fixture(autouse=True)
def _without_planted_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests run them; here, all attacks work."""
    monkeypatch.setattr(running, "_planted_scores", lambda attack: dict(attack.finds))


def flat(geometry: ClipGeometry, value: int = 90) -> np.ndarray:
    return np.full((1, *geometry.clip_shape), value, np.uint8)


def one_pixel(geometry: ClipGeometry) -> np.ndarray:
    """Black, but for one pixel of the first row."""
    clip = flat(geometry, 0)
    clip[0, 0, 0, geometry.width // 3] = 255
    return clip


def noise(geometry: ClipGeometry) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (1, *geometry.clip_shape)).astype(np.uint8)


def case_of(geometry: ClipGeometry, plain: np.ndarray, scheme: Scheme = Scheme.LCVE, *, seed: int = 0) -> Case:
    """An attacker who has all there is, of a model of random weights with the sinusoid table."""
    rng, cubes = np.random.default_rng(seed), geometry.to_cubes(plain, np)
    weights: dict[str, np.ndarray] = {
        "cube_embedding.weight": rng.normal(size=(geometry.values, WIDTH)),
        "positional_encoding": sinusoid_table(geometry.cubes, WIDTH),
        "head.weight": rng.normal(size=(WIDTH, 5)),
        "head.bias": rng.normal(size=5),
    }
    raw = scheme is Scheme.LCVE
    truth, other, *independent = (
        random_truth(rng, geometry, 5) if raw else random_truth_with_signs(rng, geometry) for _ in range(34)
    )
    known = cubes if raw else quantised(cubes, geometry, STEP)

    def shuffled(clips: np.ndarray) -> np.ndarray:
        return encrypted(clips, truth) if raw else reordered(quantised(clips, geometry, STEP), truth)

    def artifact(orders: Estimate) -> dict[str, np.ndarray]:
        return scrambled(weights, orders) if raw else scrambled_embedding(weights, orders, geometry)

    truth = dataclasses.replace(truth, labels=rng.permutation(5))
    other, *independent = (dataclasses.replace(each, labels=rng.permutation(5)) for each in (other, *independent))
    clip = decrypted(shuffled(cubes)[0], truth, geometry, scheme)
    holdings = Holdings(
        geometry=geometry,
        scheme=scheme,
        artifact=artifact(truth),
        reference=weights,
        ciphertexts=shuffled(cubes),
        known=(known, shuffled(cubes)),
        oracle=shuffled,
        other=artifact(other),
        embedding=weights["cube_embedding.weight"],
        tokens=clip @ weights["cube_embedding.weight"],
        classified=(np.arange(2), rng.normal(size=(2, 5))),
    )
    return Case(
        holdings=holdings,
        truth=dataclasses.replace(truth, clip=clip),
        relation=truth.relative_to(other),
        independent=independent,
        victim=shuffled(cubes)[0],
    )


def run(case: Case, *names: str) -> tuple[AttackResult, ...]:
    attacks = [a for a in ATTACKS if a.name in names and case.holdings.scheme in a.schemes]
    return run_attacks(case, attacks=attacks)


def audited(case: Case, *names: str) -> AuditReport:
    return judge(case, run(case, *names), {})


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("clip", [flat, one_pixel])
@pytest.mark.parametrize("odd", GEOMETRIES)
@pytest.mark.filterwarnings("error")
def test_odd_geometries_and_clips_give_finite_scores_and_no_alarm(
    odd: str, clip: Callable[[ClipGeometry], np.ndarray], scheme: Scheme
) -> None:
    geometry = ClipGeometry.parse(GEOMETRIES[odd])
    case = case_of(geometry, clip(geometry), scheme)
    quick = [attack for attack in ATTACKS if scheme in attack.schemes and attack.name != "seams"]
    report = judge(case, run_attacks(case, attacks=quick), {})
    assert report.ok, [result.attack.name for result in report.results if not result.ok]
    content = report.to_json()
    json.dumps(content, allow_nan=False)
    for row in content["attacks"]:
        assert all(0 <= share <= 1 for scores in row["recovered"].values() for share in scores.values())
        assert all(-1 <= mean <= 1 for mean in (row["control"] or {"chance": {}})["chance"].values())


@pytest.mark.parametrize("name", INVERSIONS)
@pytest.mark.parametrize("text", ["4x8x8x3/2x8x8", "2x16x16x3/2x8x8", "8x64x64x3/2x8x8"])
def test_a_flat_clip_is_alike_under_any_key_and_no_alarm(name: str, text: str) -> None:
    geometry = ClipGeometry.parse(text)
    (result,) = run(case_of(geometry, flat(geometry)), name)
    assert result.control is not None
    assert result.similarity is not None
    assert result.control.chance["clip"] > 0.5
    assert result.control.unclear["clip"].startswith("it looks alike under other keys, which reach")
    assert (result.ok, result.verdict) == (True, "not meaningful")


@pytest.mark.parametrize("name", INVERSIONS)
def test_a_clip_with_contrast_is_judged_even_in_few_cubes(name: str) -> None:
    geometry = ClipGeometry.parse("4x8x8x3/2x8x8")
    (result,) = run(case_of(geometry, noise(geometry)), name)
    assert result.control is not None
    assert not result.control.unclear
    assert result.control.chance["clip"] <= result.control.bound["clip"] < 1
    assert result.verdict == "hold"


def test_a_clip_of_low_contrast_that_is_found_is_no_alarm_and_counts() -> None:
    geometry = ClipGeometry.parse("1x16x16x3/1x4x4")
    clip = np.random.default_rng(3).normal(120, 8, (1, *geometry.clip_shape)).astype(np.uint8)
    case = case_of(geometry, clip)
    assert case.truth is not None
    assert case.truth.clip is not None
    weight = np.random.default_rng(4).normal(size=(geometry.values, geometry.values))
    holdings = dataclasses.replace(case.holdings, embedding=weight, tokens=case.truth.clip @ weight)
    (result,) = run(dataclasses.replace(case, holdings=holdings), "minimum-norm")
    assert result.control is not None
    assert result.control.chance["clip"] > 0.25
    assert not result.control.unclear
    assert result.verdict == "hold"


def test_a_clip_like_those_of_independent_keys_is_an_alarm() -> None:
    geometry = ClipGeometry.parse("8x64x64x3/2x8x8")
    case = case_of(geometry, real_clips(geometry)[:1])
    assert case.victim is not None
    stranger = decrypted(case.victim, case.independent[0], geometry, Scheme.LCVE)
    alike = dataclasses.replace(case, independent=[case.independent[0]] * 4)
    (attack,) = (attack for attack in ATTACKS if attack.name == "likeliest")
    (result,) = run_attacks(alike, attacks=[dataclasses.replace(attack, run=lambda holdings: Estimate(clip=stranger))])
    assert result.control is not None
    assert not result.control.unclear
    assert (result.ok, result.verdict) == (False, "ABOVE CHANCE")


def test_a_thumbnail_of_one_pixel_is_found_by_chance_and_no_alarm() -> None:
    """The light of such clips has a correlation of 1 where the pixel is in the same cube, which it often is."""
    geometry = ClipGeometry.parse("4x16x16x1/1x4x4")
    results = [
        run(case_of(geometry, one_pixel(geometry), seed=seed), "sinusoid", "thumbnail")[1] for seed in (0, 1, 15)
    ]
    assert [result.verdict for result in results] == ["not meaningful", "hold", "not meaningful"]
    assert all(result.similarity and result.similarity.light == 1.0 for result in results)


def test_what_has_no_score_is_said_instead() -> None:
    small = ClipGeometry.parse("1x2x8x3/1x2x2")
    clip = small.to_cubes(noise(small), np)[0]
    assert compare_clips(clip, clip, small).ssim is None
    assert str(compare_clips(clip, clip, small)) == "inf dB, SSIM -, light 1.00"
    even = small.to_cubes(flat(small), np)[0]
    assert compare_clips(clip, even, small).light is None
    assert compare_clips(even + 1e-12, clip, small).light == 0.0
    results = {r.attack.name: r for r in run(case_of(small, flat(small)), *INVERSIONS, "sinusoid", "thumbnail")}
    reasons = {name: result.control.unclear for name, result in results.items() if result.control is not None}
    assert reasons["likeliest"] == {"clip": "SSIM needs pictures of 3 by 3 pixels or more"}
    assert reasons["thumbnail"] == {"clip": "all cubes have the same mean"}
    listed = audited(case_of(small, flat(small)), "likeliest").not_meaningful
    assert listed == ("the clip of 'invert tokens: most probable clip', because " + reasons["likeliest"]["clip"],)


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (Space(grid=(1,)), "1 cube has only 1 order"),
        (Space(grid=(1, 1, 2)), "2 cubes have only 2 orders"),
        (Space(grid=(1, 2, 2), symmetric=True), "4 cubes have only 24 orders, 3 up to symmetries"),
        (Space(grid=(1, 1, 1), channels=3, symmetric=True), "3 cubes have only 6 orders, 1 up to symmetries"),
        (Space(grid=(5,)), ""),
        (Space(grid=(2, 2, 2), symmetric=True), ""),
    ],
)
def test_few_orders_are_counted(space: Space, text: str) -> None:
    assert few_orders("cubes", space) == text


@pytest.mark.parametrize("space", [Space(grid=(5,)), Space(grid=(2, 2, 2), symmetric=True), Space(grid=(4, 4))])
def test_guesses_hardly_ever_count_as_recovered(space: Space) -> None:
    rng, truth = np.random.default_rng(0), np.arange(space.size)
    scores = [score_order(rng.permutation(space.size), truth, space) for _ in range(300)]
    correct = np.array([round(score.exact * space.size) for score in scores])
    for count in range(1, space.size + 1):
        assert np.mean(correct >= count) <= guess_probability(space, count) + 0.02
    assert np.mean([is_above_chance(score, space) for score in scores]) <= MAX_GUESS
    whole = Recovery(exact=1.0, near=1.0, neighbours=1.0)
    assert is_above_chance(whole, space)


def test_energy_counts_if_a_guess_hardly_ever_has_it() -> None:
    one = 1 / 384
    recovery = Recovery(exact=one, near=one, neighbours=0.0, energy=0.9, strongest=0.0)
    assert is_above_chance(recovery, Space(grid=(2, 8, 8), channels=3))
    assert not is_above_chance(recovery, Space(grid=(2, 8, 8), channels=3, symmetric=True))
    assert not is_above_chance(dataclasses.replace(recovery, energy=0.04), Space(grid=(2, 8, 8), channels=3))


def test_the_only_orders_of_few_cubes_hide_nothing_and_count_for_nothing() -> None:
    geometry = ClipGeometry.parse("4x8x8x3/2x8x8")
    case = case_of(geometry, noise(geometry))
    first = {verdict.attacker: verdict for verdict in audited(case, "sinusoid", "known").verdicts}
    artifact, known = first["the operator, who has the artifact"], first["anyone with plain clips and their encryption"]
    reason = "not meaningful here: K1, because 2 cubes have only 2 orders"
    assert artifact.sentence == f"not opened by these attacks: {reason}"
    assert known.state == "EVERY CLIP IS READABLE"
    assert known.sentence.endswith(reason)
    assert "K2 recovered in full; " in known.sentence
    assert audited(case, "sinusoid", "known").not_meaningful == ("K1, because 2 cubes have only 2 orders",)
    assert known.to_json()["not_meaningful"] == {"K1": "2 cubes have only 2 orders"}


def test_eight_cubes_found_in_full_are_above_chance() -> None:
    geometry = ClipGeometry.parse("4x16x16x3/2x8x8")
    case = case_of(geometry, real_clips(geometry)[:1])
    attack = next(attack for attack in ATTACKS if attack.name == "positions")
    found = Estimate(cubes=case.truth.cubes if case.truth else None)
    results = run_attacks(case, attacks=[dataclasses.replace(attack, run=lambda holdings: found)])
    verdict = judge(case, results, {}).verdicts[-1]
    assert verdict.above_chance == ("cubes",)
    assert verdict.state == "CLIPS ARE READ IN PART"


def test_attackers_who_found_nothing_are_listed() -> None:
    geometry = ClipGeometry.parse("4x16x16x3/2x8x8")
    report = audited(case_of(geometry, flat(geometry)), "texture", "jigsaw")
    (operator, thief) = report.verdicts
    assert thief.attacker == "a thief who has only encrypted clips"
    assert operator.sentence == thief.sentence == "not opened by these attacks: nothing found"
    assert all(result.found_nothing for result in report.results)


@pytest.mark.parametrize("scheme", Scheme)
def test_known_clips_that_distinguish_nothing_open_nothing_and_say_so(scheme: Scheme) -> None:
    geometry = ClipGeometry.parse("1x8x12x3/1x4x4")
    (verdict,) = audited(case_of(geometry, flat(geometry, 128), scheme), "known").verdicts
    same = "the known clips have the same values in all positions of a cube"
    reasons = ["K1, because the known clips have the same content in all cubes", f"K2, because {same}"]
    reasons += [f"signs, because {same}"] if scheme is Scheme.DCT else []
    assert verdict.sentence == f"not opened by these attacks: not meaningful here: {'; '.join(reasons)}"
    assert not verdict.opens


def test_seams_of_two_equal_cubes_are_tried() -> None:
    geometry = ClipGeometry.parse("1x8x16x3/1x8x8")
    plain = flat(geometry)
    plain[:, :, :4] = 200
    (_, result) = run(case_of(geometry, plain, Scheme.DCT), "sinusoid", "seams")
    assert (result.ok, result.found_nothing) == (True, False)


def test_cubes_of_one_pixel_are_assembled_without_an_order_of_values() -> None:
    geometry = ClipGeometry.parse("1x12x12x3/1x1x1")
    rng = np.random.default_rng(0)
    row = np.arange(12)[:, None] * 9 + np.arange(12) * 2
    cubes = geometry.to_cubes(np.stack([row, 2 * row, row[::-1] + 50], axis=-1)[None, None].astype(np.uint8), np)
    truth = random_truth(rng, geometry)
    found = solve_jigsaw(Holdings(geometry=geometry, ciphertexts=encrypted(cubes, truth)))
    assert found.values is None
    assert found.cubes is not None
    assert sorted(found.cubes) == list(range(144))
    space = Space(grid=geometry.grid, symmetric=True)
    assert score_order(found.cubes, truth.order("cubes"), space).neighbours > 0.3
    assert math.isclose(guess_probability(space, 0), 1.0)
