"""What known clips give of the compared encryptions: planted cases, the control, and the recorded figures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.attacks.clips import match_pairs
from paper.experiments.known_clips import measuring as known_clips
from paper.experiments.known_clips.attacks import break_known
from paper.experiments.known_clips.measuring import DIGITS, FILM, Subject, Trial, found_shares, measure_method
from paper.findings.seeds import NOT_RUN, Findings
from paper.methods.encryption import at_level
from paper.methods.learnable_encryption import learnable_encryption
from paper.methods.table import ENCRYPTIONS, Method, encryption, experiment_key
from paper.page.sections import known_clips as known_clips_section

GEOMETRY = ClipGeometry.parse("4x32x32x3/2x8x8")
RECORDED = json.loads(known_clips.PATH.read_text())
MOVED = {"pixel": {"K2"}, "cube": {"K1"}, "lcve": {"K1", "K2"}, "qi": {"K1", "K2"}, "le": {"halves", "reversed"}}

every_method = pytest.mark.parametrize("method", ENCRYPTIONS, ids=lambda method: method.name)


def noise(clips: int, geometry: ClipGeometry = GEOMETRY, most: int = 256) -> np.ndarray:
    """Clips in which nothing is like anything else, if ``most`` is not too small."""
    return np.random.default_rng(clips).integers(0, most, (clips, *geometry.clip_shape), dtype=np.uint8)


def moved(method: Method) -> set[str]:
    return MOVED[method.name.split("-")[0]]


@every_method
@pytest.mark.parametrize("geometry", ["4x32x32x3/2x8x8", "4x16x24x1/2x4x8", "3x16x32x3/1x8x8"])
def test_one_clip_gives_everything_where_all_is_distinct(method: Method, geometry: str) -> None:
    at = ClipGeometry.parse(geometry)
    key, (known, other) = method.keyed(experiment_key(3), at), np.split(noise(2, at), 2)
    found = break_known(method, known, key.encrypt(known), at)
    assert found_shares(found, key) == dict.fromkeys(moved(method), 1.0)
    np.testing.assert_array_equal(found.decrypt(key.encrypt(other)), other)
    np.testing.assert_array_equal(found.encrypt(other), key.encrypt(other))


@every_method
def test_the_control_decrypts_about_nothing(method: Method) -> None:
    clips = noise(2)
    subject = Subject(name="noise", geometry=GEOMETRY, trials=(Trial(known=clips[:1], others=clips[1:]),))
    row = measure_method(subject, method)
    assert (row["values"], row["psnr"]) == ({"mean": 1.0, "least": 1.0}, None)
    assert row["control"]["values"]["mean"] < 0.25  # of 16 patches, three stay in place by luck
    assert row["control"]["psnr"] < 10
    chance = {"reversed": 0.6}
    assert all(share["mean"] < chance.get(name, 0.2) for name, share in row["control"]["found"].items())


@every_method
def test_a_clip_paired_with_a_strangers_ciphertext_gives_about_nothing(method: Method) -> None:
    known, foreign, other = np.split(noise(3), 3)
    key = method.keyed(experiment_key(0), GEOMETRY)
    found = break_known(method, known, key.encrypt(foreign), GEOMETRY)
    assert (found.decrypt(key.encrypt(other)) == other).mean() < 0.3


@every_method
def test_what_is_equal_is_not_told_apart_and_the_known_clip_still_opens(method: Method) -> None:
    key, flat = method.keyed(experiment_key(0), GEOMETRY), np.full((1, *GEOMETRY.clip_shape), 7, dtype=np.uint8)
    found = break_known(method, flat, key.encrypt(flat), GEOMETRY)
    np.testing.assert_array_equal(found.decrypt(key.encrypt(flat)), flat)
    assert all(share < {"reversed": 1.0}.get(name, 0.3) for name, share in found_shares(found, key).items())


@pytest.mark.parametrize("name", ["pixel-frame", "pixel-video", "lcve-frame", "lcve-video"])
def test_two_values_that_are_equal_everywhere_leave_the_rest_right(name: str) -> None:
    method = encryption(name)
    parts = at_level(method.level, GEOMETRY)
    cubes = parts.to_cubes(noise(2).reshape(-1, *parts.clip_shape), np)
    half = len(cubes) // 2
    cubes[:half, :, 5] = cubes[:half, :, 11]  # in the known clip alone
    known = parts.from_cubes(cubes, np).reshape(2, *GEOMETRY.clip_shape)[:1]
    key = method.keyed(experiment_key(0), GEOMETRY)
    found = break_known(method, known, key.encrypt(known), GEOMETRY)
    shares = found_shares(found, key)
    assert shares["K2"] in (1.0, 1 - 2 / parts.values)
    assert shares.get("K1", 1.0) == 1.0
    np.testing.assert_array_equal(found.decrypt(key.encrypt(known)), known)


def test_more_known_clips_tell_more_apart() -> None:
    method, dark = encryption("le-frame"), noise(1, most=16)  # no upper half says anything
    key = method.keyed(experiment_key(0), GEOMETRY)
    alone, with_another = (
        found_shares(break_known(method, known, key.encrypt(known), GEOMETRY), key)["halves"]
        for known in (dark, np.concatenate([dark, noise(2)]))
    )
    assert 0.5 <= alone < 0.6
    assert with_another == 1.0


def test_the_attack_takes_whole_numbers_beyond_a_byte() -> None:
    rng = np.random.default_rng(0)
    plain = rng.integers(0, 2**31, (1, 12, 20))
    cubes, values = rng.permutation(12), rng.permutation(20)
    found = match_pairs(plain, plain[:, cubes][..., values])
    np.testing.assert_array_equal(found.cubes, cubes)
    np.testing.assert_array_equal(found.values, values)


def test_shares_are_of_one_kind_alone() -> None:
    le = learnable_encryption(experiment_key(0), GEOMETRY, encryption("le-video").level)
    with pytest.raises(TypeError):
        found_shares(le, encryption("lcve-video").keyed(experiment_key(0), GEOMETRY))


def test_all_methods_and_subjects_are_recorded() -> None:
    rows = [(row["subject"], row["known"], row["method"]) for row in RECORDED["rows"]]
    assert rows == [(*subject, m.name) for subject in ((FILM, 1), (DIGITS, 1), (DIGITS, 4)) for m in ENCRYPTIONS]
    for row in RECORDED["rows"]:
        assert set(row["found"]) == moved(encryption(row["method"]))
        assert row["control"]["values"]["mean"] < 0.05
        assert row["control"]["psnr"] < 18


@every_method
def test_the_record_of_the_film_is_what_it_measures(method: Method) -> None:
    film = next(known_clips._subjects())
    (recorded,) = (r for r in RECORDED["rows"] if (r["subject"], r["method"]) == (FILM, method.name))
    assert measure_method(film, method) == recorded


def test_results_are_written_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clips = noise(2)
    small = Subject(name=FILM, geometry=GEOMETRY, trials=(Trial(known=clips[:1], others=clips[1:]),))
    monkeypatch.setattr(known_clips, "_subjects", lambda: iter([small]))
    monkeypatch.setattr(known_clips, "PATH", tmp_path / "new/known-clips.json")
    results = known_clips.write()
    assert json.loads((tmp_path / "new/known-clips.json").read_text()) == results
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["known-clips.json"]


def test_the_section_says_what_was_measured() -> None:
    lines = known_clips_section.section(Findings({}, RECORDED)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(ENCRYPTIONS)
    assert all(line.count("|") == 7 for line in table)
    assert table[-1].startswith("| LCVE | video | K1 99.8 %, K2 100 %; exact in 1 of 2, ")
    assert all(len(line) <= 120 for line in lines if not line.startswith("|"))
    assert known_clips_section.section(Findings({})) == NOT_RUN


def test_what_is_almost_all_is_not_called_all() -> None:
    almost = {"mean": 0.999999, "least": 0.999999}
    row = {"found": {"K1": almost}, "psnr": 70.0, "exact": 1, "trials": 2, "values": almost}
    said = "K1 99.9 %; exact in 1 of 2, 99.9 % of values, at least 99.9 %, 70.0 dB"
    assert known_clips_section._cell(row) == said
    assert known_clips._floor(1 - 1e-9) < 1
