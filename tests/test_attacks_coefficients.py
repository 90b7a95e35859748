"""Attacks on ``lcve-dct-1``: what they find, and that they use the transform of the format."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    AuditInputs,
    Client,
    ClipGeometry,
    ExportOptions,
    PlainClip,
    SecurityKey,
    Views,
    audit,
    encrypt,
    export,
    write_clip_file,
)
from lcve_deploy.attacks.catalogue import ATTACKS
from lcve_deploy.attacks.coefficients.frequencies import energies, quantised, to_basis, to_frequencies
from lcve_deploy.attacks.coefficients.known import match_known_coefficients, same_coefficients
from lcve_deploy.attacks.coefficients.planted import encrypted, random_truth_with_signs
from lcve_deploy.attacks.coefficients.score import align_coefficients, score_coefficients
from lcve_deploy.attacks.coefficients.seams import place_by_seams, plant_seams, show_mosaic
from lcve_deploy.attacks.coefficients.series import lay_out_coefficient_series
from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.pictures import as_pixels, decrypted
from lcve_deploy.attacks.planted.cases import CONTROL_GEOMETRY, film
from lcve_deploy.attacks.running import State, run_attacks
from lcve_deploy.attacks.score import Space
from lcve_deploy.cipher import coefficients
from lcve_deploy.clipfile import ClipFile
from lcve_deploy.clips import COEFFICIENTS, Scheme
from lcve_deploy.keys.orders import derive_orders
from tests.conftest import GEOMETRY, ORACLES, SALT, run_ok

SPACE = Space(grid=CONTROL_GEOMETRY.cube, channels=3, flips=False)
SYMMETRIC = dataclasses.replace(SPACE, symmetric=True)


@pytest.mark.parametrize("geometry", ["4x8x12x3/2x4x6", "2x8x8x1/1x4x4", "2x8x8x2/2x4x4"])
def test_attackers_have_the_transform_of_the_format(geometry: str) -> None:
    size = ClipGeometry.parse(geometry)
    cubes = np.random.default_rng(0).normal(size=(size.cubes, size.values))
    frequencies = to_frequencies(cubes, size)
    np.testing.assert_allclose(frequencies, coefficients.to_frequencies(cubes, size), atol=1e-12)
    np.testing.assert_allclose(to_basis(frequencies, size), cubes, atol=1e-12)


def test_attackers_quantise_as_a_client_does(key: SecurityKey) -> None:
    orders = derive_orders(key, salt=SALT, geometry=CONTROL_GEOMETRY, scheme=Scheme.DCT)
    clip = film()[0]
    record = encrypt(PlainClip(values=CONTROL_GEOMETRY.from_cubes(clip, np)), orders, step=16.0).values
    plain = np.empty((CONTROL_GEOMETRY.cubes, CONTROL_GEOMETRY.values))
    assert orders.signs is not None
    plain[np.ix_(orders.cube_order, orders.pixel_order)] = record[()][COEFFICIENTS] * orders.signs[orders.pixel_order]
    assert np.mean(plain * 16 != quantised(clip, CONTROL_GEOMETRY, 16.0)) < 1e-4


def test_the_truth_decrypts_a_clip_and_unknown_coefficients_are_zero() -> None:
    truth = random_truth_with_signs(np.random.default_rng(0))
    cipher = encrypted(film()[:1], truth, CONTROL_GEOMETRY, 2.0)[0]
    right = decrypted(cipher, truth, CONTROL_GEOMETRY, Scheme.DCT)
    assert np.abs(right.astype(int) - film()[0]).max() <= 8
    known = np.where(truth.order("values") == 0, 0, -1)
    flat = decrypted(cipher, dataclasses.replace(truth, values=known), CONTROL_GEOMETRY, Scheme.DCT)
    assert (flat == flat[:, :1]).all()
    assert np.corrcoef(flat[:, 0], film()[0].mean(axis=1))[0, 1] > 0.99
    assert as_pixels(cipher, Scheme.DCT).dtype == np.uint8


def test_known_clips_tell_what_has_texture_and_the_rest_is_not_misled(key: SecurityKey) -> None:
    truth, clips = random_truth_with_signs(np.random.default_rng(0)), film()[:1]
    known = quantised(clips, CONTROL_GEOMETRY, 16.0), encrypted(clips, truth, CONTROL_GEOMETRY, 16.0)
    found = match_known_coefficients(Holdings(geometry=CONTROL_GEOMETRY, scheme=Scheme.DCT, known=known))
    energy = (known[0][0] ** 2).sum(axis=0)
    scores = score_coefficients(found, truth, SPACE, energy)
    assert scores["values"].exact < 0.9  # coefficients that are always zero
    assert scores["signs"].energy is not None
    assert scores["signs"].energy > 0.999
    assert scores["signs"].strongest == 1.0
    assert np.mean(found.cubes == truth.cubes) > 0.9


def test_a_clip_is_recognised_by_its_numbers_of_zeros() -> None:
    truth, clips = random_truth_with_signs(np.random.default_rng(0)), film()
    plain, cipher = quantised(clips, CONTROL_GEOMETRY, 16.0), encrypted(clips, truth, CONTROL_GEOMETRY, 16.0)
    assert same_coefficients(plain[0], cipher[0])
    assert not same_coefficients(plain[0], cipher[1])


def test_a_mirror_image_and_negative_colours_score_in_full_and_are_turned_back() -> None:
    truth = random_truth_with_signs(np.random.default_rng(0))
    values, signs = truth.order("values"), truth.order("signs")
    frequencies = np.stack(np.unravel_index(values, (*CONTROL_GEOMETRY.cube, 3)))
    mirrored = signs * (1 - 2 * (frequencies[2] % 2)) * np.where(frequencies[3] == 1, -1, 1)
    found = Estimate(values=values, signs=mirrored)
    energy = np.random.default_rng(1).random(CONTROL_GEOMETRY.values)
    assert score_coefficients(found, truth, SYMMETRIC, energy)["signs"].energy == pytest.approx(1.0)
    strict = score_coefficients(found, truth, SPACE, energy)["signs"]
    assert strict.exact < 0.6
    np.testing.assert_array_equal(align_coefficients(found, truth, SYMMETRIC).signs, signs)


def test_a_sign_without_its_coefficient_counts_for_nothing() -> None:
    truth = random_truth_with_signs(np.random.default_rng(0))
    found = Estimate(values=np.roll(truth.order("values"), 1), signs=truth.signs)
    scores = score_coefficients(found, truth, SPACE, None)
    assert scores["signs"].exact < 0.05
    assert scores["signs"].energy is None


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, oracle = tmp_path_factory.mktemp("dct") / "a", ORACLES["v1_model_args"]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=Scheme.DCT)
    export(oracle.path, place, key=SecurityKey(bytes(range(32))), options=options)
    return place


def test_an_audit_scores_orders_and_signs_and_its_page_shows_them(
    artifact: Path, key_file: Path, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = [attack for attack in ATTACKS if attack.name not in ("positions", "series", "seams")]
    monkeypatch.setattr("lcve_deploy.verbs.audit.auditing.run_attacks", partial(run_attacks, attacks=quick))
    np.save(tmp_path / "clip.npy", clip)
    for name, seal in (("clip", ()), ("sealed", ("--seal-to", sealing_key(tmp_path)))):
        encryption = ("--key", key_file, "--client", artifact / "client", "-o", tmp_path / f"{name}.lcve")
        run_ok("encrypt", tmp_path / "clip.npy", *encryption, *seal)
    arguments = ("audit", artifact / "server", "--key", key_file, "--reference", ORACLES["v1_model_args"].path)
    clips = ("--ciphertext", tmp_path / "clip.lcve", "--ciphertext", tmp_path / "sealed.lcve")
    known = ("--known-clip", tmp_path / "clip.npy")
    page = ("-o", tmp_path / "audit.html", "--json")
    report = json.loads(run_ok(*arguments, *clips, *known, *page))
    rows = {row["name"]: row for row in report["attacks"]}
    for name, finds in (("reference", 4), ("linking", 4), ("known", 3), ("chosen", 3)):
        recovered = rows[name]["recovered"]
        assert len(recovered) == finds, name
        assert "signs" in recovered
        assert all(found.get("energy", found["exact"]) > 0.99 for found in recovered.values()), name
    assert rows["sinusoid"]["recovered"]["K1"]["exact"] == 1.0
    assert "frequencies" in rows["filters"]["reason"]
    assert report["controls_hold"]
    assert report["verdicts"][0]["opens"]
    assert report["subject"]["scheme"] == "lcve-dct-1"
    assert "nothing to run an attack on" in report["subject"]["sealed clips"]
    assert "<th>signs</th>" in (tmp_path / "audit.html").read_text()


def sealing_key(folder: Path) -> Path:
    run_ok("keygen", "--sealing", "-o", folder / "seal.key")
    return folder / "seal.pub"


def test_without_the_key_a_known_clip_is_found_among_the_ciphertexts(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "clip.npy", clip)
    encrypted_clip = Client.open(artifact / "client", key).encrypt(PlainClip(values=clip[None]), step=6.0)
    write_clip_file(tmp_path / "clip.lcve", ClipFile(clip=encrypted_clip, views=Views()))
    only = [attack for attack in ATTACKS if attack.name == "known"]
    monkeypatch.setattr("lcve_deploy.verbs.audit.auditing.run_attacks", partial(run_attacks, attacks=only))
    inputs = AuditInputs(ciphertexts=[tmp_path / "clip.lcve"], known_clips=[tmp_path / "clip.npy"])
    (result,) = audit(artifact / "server", inputs).results
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY, scheme=Scheme.DCT)
    assert result.estimate is not None
    assert np.mean(result.estimate.cubes == orders.cube_order) > 0.9
    assert result.state is State.NOT_SCORED


def test_attacks_of_one_name_are_for_different_schemes() -> None:
    for scheme in Scheme:
        names = [attack.name for attack in ATTACKS if scheme in attack.schemes]
        assert len(names) == len(set(names))


def test_seams_need_the_right_order_of_cubes() -> None:
    planted = plant_seams(np.random.default_rng(1))
    unknown = dataclasses.replace(planted.holdings, found=None)
    assert place_by_seams(unknown).values is None
    assert show_mosaic(unknown).clip is None
    geometry = planted.holdings.geometry
    wrong = Estimate(cubes=np.random.default_rng(0).permutation(geometry.cubes))
    found = place_by_seams(dataclasses.replace(planted.holdings, found=wrong))
    space = Space(grid=geometry.cube, channels=geometry.channels, symmetric=True, flips=False)
    assert planted.truth.clip is not None
    scores = score_coefficients(found, planted.truth, space, energies(planted.truth.clip, geometry))
    assert scores["signs"].exact < 0.5


def test_a_clip_without_any_coefficient_gives_nothing() -> None:
    nothing = np.zeros((1, CONTROL_GEOMETRY.cubes, CONTROL_GEOMETRY.values), np.float32)
    found = Estimate(cubes=np.arange(CONTROL_GEOMETRY.cubes))
    holdings = Holdings(geometry=CONTROL_GEOMETRY, scheme=Scheme.DCT, ciphertexts=nothing, found=found)
    for attack in (place_by_seams, lay_out_coefficient_series):
        assert vars(attack(holdings)) == vars(Estimate())
    assert show_mosaic(holdings).clip is not None


def test_coefficients_of_a_flat_clip_score_by_their_number() -> None:
    truth = random_truth_with_signs(np.random.default_rng(3))
    flat = energies(np.full((CONTROL_GEOMETRY.cubes, CONTROL_GEOMETRY.values), 128), CONTROL_GEOMETRY)
    space = Space(grid=CONTROL_GEOMETRY.cube, channels=CONTROL_GEOMETRY.channels)
    scores = score_coefficients(truth, truth, space, flat)
    assert {name: score.energy for name, score in scores.items()} == {"values": 1.0, "signs": 1.0}


def test_seams_need_more_than_one_cube() -> None:
    geometry = ClipGeometry(frames=2, height=4, width=4, channels=3, cube=(2, 4, 4))
    clips = np.random.default_rng(1).normal(0, 30, (2, 1, geometry.values)).astype(np.float32)
    found = Estimate(cubes=np.zeros(1, dtype=np.int64))
    holdings = Holdings(geometry=geometry, scheme=Scheme.DCT, artifact={}, ciphertexts=clips, found=found)
    assert place_by_seams(holdings).values is None


@pytest.mark.parametrize("scheme", Scheme)
def test_attacks_within_cubes_are_not_run_on_cubes_of_one_pixel(scheme: Scheme) -> None:
    size = ClipGeometry.parse("2x2x2x3/1x1x1")
    rng = np.random.default_rng(0)
    cipher = rng.integers(1, 9, (3, size.cubes, size.values)).astype(np.uint8)
    artifact = {"cube_embedding.weight": rng.normal(size=(size.values, 8))}
    holdings = Holdings(geometry=size, scheme=scheme, artifact=artifact, ciphertexts=cipher)
    reasons = {a.name: a.reason_not_to_run(holdings) for a in ATTACKS if scheme in a.schemes and a.within}
    assert all(reasons.values())
    assert "needs cubes of several pixels" in reasons.values()
