from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions, SecurityKey, verify
from lcve_deploy.errors import LcveError, MismatchError, ParityError
from lcve_deploy.parity import CONTROLS, RELATIVE_TOLERANCE, UNMEASURED, compare, max_difference
from lcve_deploy.samples import noise_clip, real_clips, textured_clip
from lcve_deploy.testing import assert_parity

from .conftest import GEOMETRY, ORACLES

TINY = ORACLES["v1_model_args"]
EXPECTED = np.array([[0.0, 1.0, 2.0], [3.0, -5.0, 1.0]])
FAR = dict.fromkeys(CONTROLS, 1.0)


def test_the_tolerance_grows_with_the_logits() -> None:
    assert compare(EXPECTED, EXPECTED, reference="x").tolerance == pytest.approx(5 * RELATIVE_TOLERANCE)
    assert compare(EXPECTED / 10, EXPECTED / 10, reference="x").tolerance == RELATIVE_TOLERANCE
    assert compare(EXPECTED, EXPECTED, reference="x", tolerance=1e-9).tolerance == 1e-9


def test_figures_are_what_they_say() -> None:
    report = compare(EXPECTED, EXPECTED + np.array([[0, 0, 0], [0, 0, 3e-5]]), reference="x", controls=FAR)
    assert report.max_difference == pytest.approx(3e-5)
    assert report.mean_difference == pytest.approx(5e-6)
    assert (report.clips, report.logit_scale, report.top1_agreement) == (2, 5.0, 1.0)
    assert report.ok
    report.require()


def test_another_first_class_shows() -> None:
    report = compare(EXPECTED, EXPECTED[:, ::-1], reference="x")
    assert report.top1_agreement == 0.0
    assert report.top5_agreement == 1.0
    with pytest.raises(ParityError, match="logits differ"):
        report.require()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_logits_that_are_not_numbers_never_agree(wrong: float) -> None:
    received = EXPECTED.copy()
    received[0, 0] = wrong
    assert not compare(EXPECTED, received, reference="x", controls=FAR).ok
    assert max_difference(EXPECTED, received) == np.inf


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("gap", [0.0, 0.049, float("nan")])
def test_each_control_must_miss_by_a_hundred_tolerances(name: str, gap: float) -> None:
    report = compare(EXPECTED, EXPECTED, reference="x", controls={**FAR, name: gap})
    assert report.agreeing_controls == (name,)
    with pytest.raises(ParityError, match=CONTROLS[name]):
        report.require()


@pytest.mark.parametrize("name", CONTROLS)
def test_every_control_must_have_been_measured(name: str) -> None:
    controls = {other: gap for other, gap in FAR.items() if other != name}
    report = compare(EXPECTED, EXPECTED, reference="x", controls=controls)
    assert not report.ok
    with pytest.raises(ParityError, match=name):
        report.require()


def test_what_is_not_measured_is_not_ok() -> None:
    assert not UNMEASURED.ok


def test_shapes_must_be_equal() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        compare(EXPECTED, EXPECTED[:1], reference="x")


@pytest.mark.parametrize("text", ["8x32x32x3/2x8x8", "16x224x224x3/2x16x16", "4x64x48x1/1x16x16"])
def test_built_in_clips_have_any_geometry(text: str) -> None:
    geometry = type(GEOMETRY).parse(text)
    for clips, count in ((real_clips(geometry), 2), (noise_clip(geometry), 1), (textured_clip(geometry), 1)):
        assert clips.shape == (count, *geometry.clip_shape)
        assert clips.dtype == np.uint8
        assert clips.std() > 20


def test_every_shuffle_shows_on_the_textured_clip() -> None:
    cubes = GEOMETRY.to_cubes(textured_clip(GEOMETRY)[0], np).astype(float)
    assert len(np.unique(cubes.mean(axis=1))) > GEOMETRY.cubes // 4  # cubes differ from one another
    assert cubes.mean(axis=0).std() > 40  # and share a pattern inside


def test_verify_needs_only_key_and_checkpoint(exported: Path, key: SecurityKey) -> None:
    report = verify(exported, key=key, checkpoint=TINY.path)
    assert report.ok
    assert report.reference.startswith("built-in")


def test_assert_parity_passes_and_fails_as_a_test_would(exported: Path, key: SecurityKey) -> None:
    assert assert_parity(exported, key=key, checkpoint=TINY.path).max_difference < 1e-5
    with pytest.raises(AssertionError, match="logits differ"):
        assert_parity(exported, key=key, checkpoint=TINY.path, tolerance=1e-12)


def test_another_checkpoint_of_the_same_shape_does_not_agree(exported: Path, key: SecurityKey) -> None:
    report = verify(exported, key=key, checkpoint=ORACLES["v2_plain"].path)
    assert not report.agrees


def test_a_checkpoint_of_another_shape_is_refused(exported: Path, key: SecurityKey) -> None:
    with pytest.raises(MismatchError, match="the artifact takes"):
        verify(exported, key=key, checkpoint=TINY.path, options=CheckpointOptions(frames=16))


def test_a_folder_of_another_geometry_is_a_mismatch_and_no_option_error(
    exported: Path, key: SecurityKey, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(ORACLES["hf_videomae"].path, tmp_path / "hf"))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "num_frames": 16}))
    with pytest.raises(MismatchError, match="the artifact takes"):
        verify(exported, key=key, checkpoint=folder)


def test_a_wrong_key_is_refused(exported: Path) -> None:
    with pytest.raises(LcveError, match="key id"):
        verify(exported, key=SecurityKey(bytes(32)), checkpoint=TINY.path)
