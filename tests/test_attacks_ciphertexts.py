"""Attacks on ciphertexts alone: each solves its planted case, gains nothing against unrelated orders, and ends well."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from lcve_deploy.attacks.cube_series import lay_out_series, plant_series
from lcve_deploy.attacks.holdings import Estimate, Holdings, Planted
from lcve_deploy.attacks.jigsaw import plant_jigsaw, solve_jigsaw
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY
from lcve_deploy.attacks.planted.footage import footage
from lcve_deploy.attacks.score import Space, chance_level, score_order
from lcve_deploy.attacks.similarity import compare_clips
from lcve_deploy.attacks.solvers.growing import grow_layout
from lcve_deploy.attacks.solvers.repairing import neighbour_fit, repair_layout
from lcve_deploy.attacks.thumbnail import plant_thumbnail, show_thumbnail, thumbnail
from lcve_deploy.attacks.value_order import lay_out_texture, plant_texture
from lcve_deploy.geometry import ClipGeometry

GEOMETRY = CONTROL_GEOMETRY
CUBES = Space(grid=GEOMETRY.grid, symmetric=True)
VALUES = Space(grid=GEOMETRY.cube, channels=GEOMETRY.channels, symmetric=True)
THUMBNAIL_LIKENESS = 0.8


@dataclass(frozen=True)
class Case:
    """An attack, its planted case, and what it must reach there."""

    attack: Callable[[Holdings], Estimate]
    plant: Callable[[np.random.Generator], Planted]
    order: str
    measure: str
    threshold: float


CASES = {
    "texture": Case(lay_out_texture, plant_texture, "values", "exact", 0.9),
    "jigsaw": Case(solve_jigsaw, plant_jigsaw, "cubes", "exact", 0.9),
    "series": Case(lay_out_series, plant_series, "cubes", "neighbours", 0.2),
}


@functools.cache
def _solved(name: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate and truth of a planted case."""
    case = CASES[name]
    planted = case.plant(np.random.default_rng(seed))
    return getattr(case.attack(planted.holdings), case.order), getattr(planted.truth, case.order)


def _space(case: Case) -> Space:
    return CUBES if case.order == "cubes" else VALUES


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", CASES)
def test_solves_its_planted_case(name: str, seed: int) -> None:
    case = CASES[name]
    assert getattr(score_order(*_solved(name, seed), _space(case)), case.measure) >= case.threshold


@pytest.mark.parametrize("name", CASES)
def test_is_at_chance_against_unrelated_orders(name: str) -> None:
    case, space = CASES[name], _space(CASES[name])
    unrelated = [np.random.default_rng(seed).permutation(space.size) for seed in range(5)]
    scores = [score_order(_solved(name, 0)[0], order, space) for order in unrelated]
    assert np.mean([getattr(score, case.measure) for score in scores]) <= chance_level(case.measure, space)
    assert chance_level(case.measure, space) < case.threshold / 3


@pytest.mark.parametrize("name", CASES)
def test_finds_the_same_twice(name: str) -> None:
    case = CASES[name]
    again = case.attack(case.plant(np.random.default_rng(0)).holdings)
    np.testing.assert_array_equal(getattr(again, case.order), _solved(name, 0)[0])


@pytest.mark.parametrize("name", CASES)
def test_says_nothing_without_ciphertexts_or_texture(name: str) -> None:
    case = CASES[name]
    even = np.full((2, GEOMETRY.cubes, GEOMETRY.values), 90, dtype=np.uint8)
    for clips in (None, even):
        assert getattr(case.attack(Holdings(geometry=GEOMETRY, ciphertexts=clips)), case.order) is None


def test_jigsaw_takes_what_is_known_of_the_values() -> None:
    planted = plant_jigsaw(np.random.default_rng(0))
    found = solve_jigsaw(dataclasses.replace(planted.holdings, found=Estimate(values=planted.truth.values)))
    upright = Space(grid=GEOMETRY.grid)
    assert found.cubes is not None
    assert planted.truth.cubes is not None
    assert score_order(found.cubes, planted.truth.cubes, upright).exact >= CASES["jigsaw"].threshold


def test_thumbnail_shows_the_clip_in_the_right_order_alone() -> None:
    planted = plant_thumbnail(np.random.default_rng(0))
    truth, ciphertexts = planted.truth, planted.holdings.ciphertexts
    right, plain = truth.cubes, truth.clip
    assert right is not None
    assert plain is not None
    assert ciphertexts is not None
    cipher = ciphertexts[0]

    def light(cubes: np.ndarray) -> float:
        found = compare_clips(thumbnail(cipher, GEOMETRY, cubes), plain, GEOMETRY).light
        assert found is not None
        return found

    assert light(right) >= THUMBNAIL_LIKENESS
    assert abs(light(np.random.default_rng(1).permutation(GEOMETRY.cubes))) < THUMBNAIL_LIKENESS / 4
    grey, coloured = (thumbnail(cipher, GEOMETRY, right, values) for values in (None, truth.values))
    assert ((coloured - plain) ** 2).mean() < ((grey - plain) ** 2).mean()
    assert show_thumbnail(Holdings(geometry=GEOMETRY)).clip is None


def test_unknown_cubes_stay_even() -> None:
    planted = plant_thumbnail(np.random.default_rng(0))
    right, ciphertexts = planted.truth.cubes, planted.holdings.ciphertexts
    assert right is not None
    assert ciphertexts is not None
    cubes = right.copy()
    cubes[:10] = -1
    shown = thumbnail(ciphertexts[0], GEOMETRY, cubes)
    lacking = shown[right[:10]]
    np.testing.assert_allclose(lacking, lacking[0, 0])


def test_footage_fits_other_geometries() -> None:
    geometry = ClipGeometry(frames=4, height=32, width=48, channels=1, cube=(2, 8, 8))
    clips = footage(geometry, 5, np.random.default_rng(0))
    assert clips.shape == (5, *geometry.clip_shape)
    assert clips.dtype == np.uint8


def test_one_channel_and_one_frame_a_cube() -> None:
    geometry = ClipGeometry(frames=4, height=48, width=48, channels=1, cube=(1, 8, 8))
    clips = geometry.to_cubes(footage(geometry, 6, np.random.default_rng(0)), np)
    order = np.random.default_rng(1).permutation(geometry.values)
    found = lay_out_texture(Holdings(geometry=geometry, ciphertexts=clips[:, :, order])).values
    assert found is not None
    assert score_order(found, order, Space(grid=geometry.cube, symmetric=True)).exact >= 0.9


def test_growth_and_repair_follow_directions() -> None:
    grid = (3, 4)
    cells = np.arange(12).reshape(grid)
    along = np.zeros((2, 12, 12))
    for axis in range(2):
        along[axis][np.delete(cells, -1, axis), np.delete(cells, 0, axis)] = 1
    grown = grow_layout(along, grid, seed=5, corner=0)
    np.testing.assert_array_equal(grown, cells.ravel())
    swapped = cells.ravel().copy()
    swapped[[1, 11]] = swapped[[11, 1]]
    np.testing.assert_array_equal(repair_layout(along, swapped, grid), cells.ravel())
    assert neighbour_fit(along, grown, grid) == 17
    moved = grow_layout(along, grid, seed={(0, 0): 5, (0, 1): 6}, corner=0)
    np.testing.assert_array_equal(moved, cells.ravel())
