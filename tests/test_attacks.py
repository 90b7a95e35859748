"""Every attack solves its planted case and scores at chance against strangers; scores mean what they say."""

from __future__ import annotations

import dataclasses
import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcve_deploy.attacks.case import Case
from lcve_deploy.attacks.catalogue import ATTACKS, Attack
from lcve_deploy.attacks.clips import match_known, same_clip
from lcve_deploy.attacks.coefficients.planted import encrypted as encrypted_coefficients
from lcve_deploy.attacks.coefficients.planted import random_truth_with_signs
from lcve_deploy.attacks.embedding import lay_out_values
from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.inversion import invert_minimum_norm
from lcve_deploy.attacks.page import render_page
from lcve_deploy.attacks.pictures import put_in_order
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, encrypted, film, random_truth, smooth_field
from lcve_deploy.attacks.reference import match_keys
from lcve_deploy.attacks.relative_positions import read_relative
from lcve_deploy.attacks.report import judge
from lcve_deploy.attacks.rotary import read_rotary
from lcve_deploy.attacks.running import State, run_attacks
from lcve_deploy.attacks.score import Space, align_order, chance_level, score_order
from lcve_deploy.attacks.similarity import compare_clips
from lcve_deploy.attacks.solvers.layout import invert_layout, lay_out
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.checkpoints.rotary import eva_rotary, vjepa2_rotary
from lcve_deploy.geometry import ClipGeometry

BY_NAME = {attack.name: attack for attack in ATTACKS if Scheme.LCVE in attack.schemes}
STRANGERS = tuple(random_truth(np.random.default_rng(100 + i)) for i in range(16))


def planted_case(attack: Attack) -> Case:
    planted = attack.plant(np.random.default_rng(7))
    truth = planted.truth
    if planted.holdings.scheme is Scheme.DCT:
        return signed_case(planted)
    victim = encrypted(film()[:1], random_truth(np.random.default_rng(99)))[0]
    return Case(holdings=planted.holdings, truth=truth, relation=truth, independent=STRANGERS, victim=victim)


def signed_case(planted: Planted) -> Case:
    geometry, truth = planted.holdings.geometry, planted.truth
    *strangers, other = (random_truth_with_signs(np.random.default_rng(100 + i), geometry) for i in range(17))
    victim = encrypted_coefficients(film(geometry)[:1], other, geometry, 4.0)[0]
    return Case(holdings=planted.holdings, truth=truth, relation=truth, independent=strangers, victim=victim)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.name}-{min(attack.schemes)}")
def test_every_attack_solves_a_planted_case_and_is_at_chance_against_strangers(attack: Attack) -> None:
    (result,) = run_attacks(planted_case(attack), attacks=[attack])
    assert result.state is State.MEASURED
    assert result.control is not None
    assert set(result.control.planted) == set(attack.finds)
    assert result.control.solved
    assert result.control.at_chance
    assert set(result.control.chance) == set(attack.finds)
    scores = {name: getattr(recovery, attack.measure) for name, recovery in result.recovered.items()}
    scores |= {"clip": getattr(result.similarity, attack.measure)} if "clip" in attack.finds else {}
    assert all(scores[name] >= least for name, least in attack.finds.items())
    assert all(scores[name] > 4 * result.control.chance[name] for name in attack.finds if name != "clip")


@pytest.mark.parametrize("name", ["sinusoid", "known", "likeliest"])
def test_an_attack_that_misses_its_planted_case_is_not_working_and_never_safe(name: str) -> None:
    attack = BY_NAME[name]
    idle = Estimate(
        cubes=np.arange(CONTROL_GEOMETRY.cubes), values=np.arange(CONTROL_GEOMETRY.values), clip=np.full((256, 384), 90)
    )
    case = planted_case(attack)
    (result,) = run_attacks(case, attacks=[dataclasses.replace(attack, run=lambda holdings: idle)])
    assert result.state is State.NOT_WORKING
    assert "planted" in result.reason
    assert not result.ok
    (unscored,) = run_attacks(
        dataclasses.replace(case, truth=None), attacks=[dataclasses.replace(attack, run=lambda holdings: idle)]
    )
    assert unscored.state is State.NOT_WORKING


def test_a_score_above_chance_against_strangers_is_a_control_that_does_not_hold() -> None:
    attack = BY_NAME["sinusoid"]
    case = planted_case(attack)
    (result,) = run_attacks(dataclasses.replace(case, independent=[case.truth]), attacks=[attack])  # type: ignore[list-item]
    assert result.control is not None
    assert not result.control.at_chance
    assert not result.ok


def test_an_attack_without_what_it_needs_is_not_run() -> None:
    results = run_attacks(Case(holdings=Holdings(geometry=CONTROL_GEOMETRY)))
    assert {result.state for result in results} == {State.NOT_RUN}
    assert all(result.reason.startswith("needs ") and result.control is None for result in results)


GRIDS = st.sampled_from([((2, 3, 3), 3), ((1, 4, 4), 1), ((2, 2, 2), 2), ((3, 2, 5), 1)])


@settings(max_examples=40, deadline=None)
@given(GRIDS, st.randoms(use_true_random=False))
def test_every_symmetry_of_the_truth_scores_in_full_and_is_turned_back(
    shape: tuple[tuple[int, int, int], int], random: Random
) -> None:
    grid, channels = shape
    space = Space(grid=grid, channels=channels, symmetric=True)
    truth = np.random.default_rng(random.randrange(2**32)).permutation(space.size)
    symmetry = random.choice(list(space.symmetries()))
    moved = np.ravel_multi_index(tuple(symmetry.applied(space.coordinates(truth), grid).T), (*grid, channels))
    recovery = score_order(moved, truth, space)
    assert recovery.exact == recovery.near == recovery.neighbours == 1.0
    np.testing.assert_array_equal(align_order(moved, truth, space), truth)


def test_unknown_entries_count_as_wrong() -> None:
    space = Space(grid=(4, 4))
    truth = np.random.default_rng(0).permutation(16)
    half = np.where(np.arange(16) < 8, truth, -1)
    recovery = score_order(half, truth, space)
    assert recovery.exact == recovery.near == 0.5
    assert recovery.neighbours < 0.6
    nothing = score_order(np.full(16, -1), truth, space)
    assert nothing.exact == nothing.near == nothing.neighbours == 0.0


@pytest.mark.parametrize("measure", ["exact", "neighbours"])
def test_random_orders_score_below_the_level_of_chance(measure: str) -> None:
    space, rng = Space(grid=(4, 6, 6), symmetric=True), np.random.default_rng(0)
    scores = [getattr(score_order(rng.permutation(144), rng.permutation(144), space), measure) for _ in range(64)]
    assert 0 < np.mean(scores) < chance_level(measure, space)
    assert chance_level(measure, space) < 0.15


def test_rough_rows_are_grown_and_smooth_rows_are_sorted() -> None:
    """Neither way alone would do both."""
    rng, grid = np.random.default_rng(3), (6, 7)
    for lengths, noise, least in (((3, 3), 0.2, 0.95), ((0.8, 0.8), 0.02, 0.6)):
        rows, order = smooth_field(rng, grid, lengths, features=200, noise=noise), rng.permutation(42)
        estimate = invert_layout(lay_out(rows[order], grid))
        assert score_order(estimate, order, Space(grid=grid, symmetric=True)).neighbours >= least


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 1, 2), (1, 2, 4), (2, 2, 2)])
def test_few_rows_are_laid_out(grid: tuple[int, ...]) -> None:
    rows = np.random.default_rng(4).normal(size=(math.prod(grid), 5))
    assert sorted(lay_out(rows, grid)) == list(range(math.prod(grid)))


@pytest.mark.parametrize(("grid", "different"), [((8, 8, 8), 8), ((8, 8, 8), 1), ((1, 8, 8), 1), ((1, 4, 4), 2)])
def test_rows_that_are_almost_all_equal_are_laid_out(grid: tuple[int, ...], different: int) -> None:
    """As those of a clip in which almost nothing is to be seen."""
    rows = np.zeros((math.prod(grid), 7))
    rows[:different] = np.random.default_rng(4).normal(size=(different, 7))
    assert sorted(lay_out(rows, grid)) == list(range(math.prod(grid)))


def test_frames_of_a_cube_with_nearly_the_same_filters_are_told_from_neighbours() -> None:
    rng, geometry = np.random.default_rng(0), CONTROL_GEOMETRY
    plane = smooth_field(rng, (8, 8), (1.2, 1.2), features=200, noise=0)
    colours = plane[:, None] + 0.5 * smooth_field(rng, (8, 8), (1.2, 1.2), features=600, noise=0).reshape(64, 3, 200)
    rows = np.concatenate([colours, colours]).reshape(384, 200)
    rows += 0.1 * rng.standard_normal(rows.shape)
    order = rng.permutation(384)
    recovery = score_order(
        lay_out_values(rows[order], geometry), order, Space(grid=geometry.cube, channels=3, symmetric=True)
    )
    assert recovery.near >= 0.9


def test_equal_cubes_and_values_of_known_clips_do_not_mislead_the_rest() -> None:
    rng, plain = np.random.default_rng(0), film()[:1].copy()
    plain[:, 40:120] = 17  # a third of the clip is one even colour
    plain[:, :, :6] = plain[:, :, 6:12]  # and some values are always equal to others
    truth = random_truth(rng)
    cipher = encrypted(plain, truth)
    estimate = match_known(Holdings(geometry=CONTROL_GEOMETRY, known=(plain, cipher)))
    np.testing.assert_array_equal(put_in_order(cipher[0], estimate), plain[0])
    assert np.mean(estimate.cubes == truth.cubes) > 0.6


def test_a_clip_is_recognised_by_the_sets_of_values_of_its_cubes() -> None:
    truth, clips = random_truth(np.random.default_rng(0)), film()
    cipher = encrypted(clips, truth)
    assert same_clip(clips[0], cipher[0])
    assert not same_clip(clips[0], cipher[1])


def test_more_known_clips_tell_more_cubes_apart() -> None:
    rng = np.random.default_rng(0)
    plain = np.zeros((4, CONTROL_GEOMETRY.cubes, CONTROL_GEOMETRY.values), np.uint8)
    for i in range(4):  # a fresh quarter of the clip moves in each
        plain[i, 64 * i : 64 * (i + 1)] = rng.integers(0, 256, (64, CONTROL_GEOMETRY.values))
    truth = random_truth(rng)
    holdings = Holdings(geometry=CONTROL_GEOMETRY, known=(plain, encrypted(plain, truth)))
    (result,) = run_attacks(Case(holdings=holdings, truth=truth, independent=STRANGERS), attacks=[BY_NAME["known"]])
    shares = [scores["cubes"] for _, scores in result.curve]
    assert [level for level, _ in result.curve] == [1, 2, 4]
    assert shares[0] < 0.5 < shares[-1] == 1.0


def test_as_many_tokens_as_values_give_the_clip_back() -> None:
    rng, clip = np.random.default_rng(0), film()[0]
    weight = rng.standard_normal((CONTROL_GEOMETRY.values, CONTROL_GEOMETRY.values))
    holdings = Holdings(geometry=CONTROL_GEOMETRY, embedding=weight, tokens=clip @ weight)
    found = invert_minimum_norm(holdings).clip
    assert found is not None
    likeness = compare_clips(found, clip, CONTROL_GEOMETRY)
    assert likeness.psnr > 100
    assert likeness.ssim is not None
    assert likeness.ssim > 0.999


def test_a_clip_put_in_order_by_the_truth_is_the_plain_clip_and_unknown_parts_are_grey() -> None:
    truth, clip = random_truth(np.random.default_rng(0)), film()[0]
    cipher = encrypted(clip[None], truth)[0]
    np.testing.assert_array_equal(put_in_order(cipher, truth), clip)
    unknown = Estimate(cubes=np.where(np.arange(256) < 128, truth.order("cubes"), -1), values=truth.values)
    seen = put_in_order(cipher, unknown)
    np.testing.assert_array_equal(seen[truth.order("cubes")[:128]], clip[truth.order("cubes")[:128]])
    assert (seen[truth.order("cubes")[128:]] == 128).all()


@pytest.mark.parametrize(
    ("cubes", "values", "state"),
    [
        (1.0, 1.0, "EVERY CLIP IS READABLE"),
        (1.0, 0.0, "CLIPS ARE READ IN PART"),
        (0.0, 0.3, "CLIPS ARE READ IN PART"),
        (0.0, 0.0, "not opened by these attacks"),
    ],
)
def test_a_verdict_takes_the_best_of_each_order_and_never_says_safe(cubes: float, values: float, state: str) -> None:
    truth = random_truth(np.random.default_rng(0))

    def guess(name: str, share: float) -> np.ndarray:
        true = truth.order(name)
        return np.where(np.arange(len(true)) < share * len(true), true, -1)

    estimate = Estimate(cubes=guess("cubes", cubes), values=guess("values", values))
    known = BY_NAME["known"]
    planted = dataclasses.replace(known.plant(np.random.default_rng(0)).holdings, geometry=CONTROL_GEOMETRY)
    attack = dataclasses.replace(known, run=lambda holdings: estimate, plant=lambda rng: solved, curve=None)
    solved = Planted(holdings=planted, truth=dataclasses.replace(estimate, labels=None))
    case = Case(holdings=planted, truth=truth, independent=STRANGERS, victim=film()[0])
    results = run_attacks(case, attacks=[dataclasses.replace(attack, finds={"cubes": 0.0, "values": 0.0})])
    report = judge(case, results, {"model": "<planted>"})
    (verdict,) = report.verdicts
    assert verdict.state == state
    assert verdict.sentence.startswith(f"{state}: ")
    assert ("recovered in full" in verdict.sentence) is (cubes == 1.0)
    page = render_page(report)
    assert state in page
    assert "&lt;planted&gt;" in page
    assert "safe" not in verdict.sentence.lower()


@pytest.mark.parametrize(
    "geometry",
    [
        ClipGeometry(frames=16, height=64, width=64, cube=(2, 16, 16)),
        ClipGeometry(frames=8, height=64, width=48, cube=(2, 16, 16)),
        ClipGeometry(frames=64, height=256, width=256, cube=(2, 16, 16)),
    ],
    ids=str,
)
def test_the_rotary_tables_of_vjepa2_give_k1_away(geometry: ClipGeometry) -> None:
    order = np.random.default_rng(0).permutation(geometry.cubes)
    rotary = vjepa2_rotary(geometry, 64)
    artifact = {"rotary.cos": rotary.cos[order].astype(np.float32), "rotary.sin": rotary.sin[order].astype(np.float32)}
    found = read_rotary(Holdings(geometry=geometry, artifact=artifact)).cubes
    np.testing.assert_array_equal(found, order)


def test_the_rotary_tables_of_images_give_k1_away() -> None:
    geometry = ClipGeometry(frames=1, height=224, width=224, cube=(1, 14, 14))
    order = np.random.default_rng(0).permutation(256)
    for rotary in (
        eva_rotary(geometry, 64, reference=16),
        eva_rotary(geometry, 64, reference=24, offset=1, columns_first=True),
    ):
        artifact = {"rotary.cos": rotary.cos[order], "rotary.sin": rotary.sin[order]}
        found = read_rotary(Holdings(geometry=geometry, artifact=artifact)).order("cubes")
        space = Space(grid=geometry.grid, symmetric=True)
        np.testing.assert_array_equal(align_order(found, order, space), order)


def test_tables_that_are_not_of_a_grid_give_nothing() -> None:
    rng = np.random.default_rng(0)
    tables = {name: rng.normal(size=(256, 32)) for name in ("rotary.cos", "rotary.sin")}
    assert read_rotary(Holdings(geometry=CONTROL_GEOMETRY, artifact=tables)).cubes is None
    index = {"relative_position.index": rng.integers(0, 900, size=(256, 256))}
    assert read_relative(Holdings(geometry=CONTROL_GEOMETRY, artifact=index)).cubes is None


def test_an_attack_on_a_tensor_that_the_model_does_not_have_is_not_run() -> None:
    holdings = Holdings(geometry=CONTROL_GEOMETRY, artifact={"rotary.cos": np.ones((256, 8))})
    (result,) = run_attacks(Case(holdings=holdings), attacks=[BY_NAME["rotary"]])
    assert (result.state, result.reason) == (State.NOT_RUN, "needs a model with rotary.sin")


@pytest.mark.parametrize("name", ["rotary", "relative"])
def test_two_keys_are_linked_by_any_kind_of_positions(name: str) -> None:
    first, second = (BY_NAME[name].plant(np.random.default_rng(seed)) for seed in (1, 2))
    holdings = dataclasses.replace(first.holdings, other=second.holdings.artifact)
    inverse = np.argsort(second.truth.order("cubes"))
    np.testing.assert_array_equal(match_keys(holdings).cubes, inverse[first.truth.order("cubes")])
