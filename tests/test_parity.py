from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    CheckpointOptions,
    Client,
    EncryptedClip,
    Layout,
    PlainClip,
    SecurityKey,
    encrypt,
    verify,
)
from lcve_deploy.artifact import EngineRecord, ModelSpec, read_manifest, read_probe
from lcve_deploy.errors import LcveError, MismatchError, ParityError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import ReferencePrecision
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.model.parity import (
    BUDGET_MARGIN,
    CONTROL_MARGIN,
    CONTROLS,
    RELATIVE_TOLERANCE,
    compare,
    max_difference,
)
from lcve_deploy.samples import noise_clip, real_clips, textured_clip, textured_clips
from lcve_deploy.testing import assert_parity
from lcve_deploy.verbs._comparing import comparison_clips, measure_parity
from tests.conftest import GEOMETRY, ORACLE, ORACLES, run_ok
from tests.test_export import export_tiny

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


def test_a_report_publishes_its_figures() -> None:
    received = EXPECTED + np.array([[0.5, 0, 0], [0, 0, 0.25]])
    report = compare(EXPECTED, received, reference="x", tolerance=1.0, controls=FAR)
    assert report.to_json() == {
        "reference": "x",
        "clips": 2,
        "tolerance": 1.0,
        "max_difference": 0.5,
        "mean_difference": 0.125,
        "logit_scale": 5.0,
        "top1_agreement": 1.0,
        "top5_agreement": 1.0,
        "controls": FAR,
    }


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


@pytest.mark.parametrize("mirror", range(8))
def test_every_shuffle_shows_on_the_textured_clips(mirror: int) -> None:
    cubes = GEOMETRY.to_cubes(list(textured_clips(GEOMETRY))[mirror][0], np).astype(float)
    assert len(np.unique(cubes.mean(axis=1))) > GEOMETRY.cubes // 4  # cubes differ from one another
    assert cubes.mean(axis=0).std() > 40  # and share a pattern inside


def test_verify_needs_only_key_and_checkpoint(exported: Path, key: SecurityKey) -> None:
    report = verify(exported, key=key, checkpoint=TINY.path)
    assert report.ok
    assert report.reference.startswith("built-in")


@pytest.mark.parametrize(("flags", "precision"), [((), "float32"), (("--thorough",), "float64")])
def test_the_report_names_the_precision_of_the_reference(
    exported: Path, key_file: Path, flags: tuple[str, ...], precision: str
) -> None:
    result = run_ok("verify", exported, "--key", key_file, "--ckpt", TINY.path, *TINY.flags, *flags)
    assert f"built-in PyTorch, {precision}\n" in result


@pytest.mark.parametrize("name", ["hf_videomae", "v2_cos"])
def test_a_reference_in_float32_is_far_within_the_tolerance_of_float64(name: str, clip: np.ndarray) -> None:
    loaded = load_checkpoint(ORACLES[name].path, ORACLES[name].options)
    single, double = (reference_for(loaded, precision) for precision in ReferencePrecision)
    assert (single.name, double.name) == (single.name.replace("64", "32"), single.name.replace("32", "64"))
    difference = max_difference(double.logits(clip[None]), single.logits(clip[None]))
    assert 0 < difference < 0.1 * RELATIVE_TOLERANCE


def test_assert_parity_passes_and_fails_as_a_test_would(exported: Path, key: SecurityKey) -> None:
    assert assert_parity(exported, key=key, checkpoint=TINY.path).max_difference < 1e-5
    with pytest.raises(AssertionError, match="logits differ"):
        assert_parity(exported, key=key, checkpoint=TINY.path, tolerance=1e-12)


def test_another_checkpoint_of_the_same_shape_does_not_agree(exported: Path, key: SecurityKey) -> None:
    report = verify(exported, key=key, checkpoint=ORACLES["v2_plain"].path)
    assert not report.agrees


def test_a_checkpoint_of_another_shape_is_refused(exported: Path, key: SecurityKey) -> None:
    with pytest.raises(MismatchError, match="--frames 8, received --frames 16"):
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


# What is compared, and with what


class Recorder:
    """A session and a reference that keep what they are asked, and answer with zeros."""

    name = "recorder"
    device = "a test"
    engine: EngineRecord | None = None
    model: ModelSpec

    def __init__(self) -> None:
        self.encrypted: list[np.ndarray] = []
        self.plain: list[np.ndarray] = []

    def run(self, clip: EncryptedClip) -> np.ndarray:
        self.encrypted.append(clip.values)
        return np.zeros((len(clip.values), 5), np.float32)

    def logits(self, clips: np.ndarray) -> np.ndarray:
        self.plain.append(clips)
        return np.zeros((len(clips), 5))


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize("layout", list(Layout))
def test_each_control_runs_what_its_name_says(key: SecurityKey, tmp_path: Path, layout: Layout, thorough: bool) -> None:
    artifact = export_tiny(tmp_path / "out", key, layout=layout)
    client, recorder = Client.open(artifact / "client", key), Recorder()
    clips = comparison_clips(client, (), thorough=thorough)
    count = len(clips)
    report = measure_parity(recorder, recorder, client, clips, thorough=thorough)
    assert report.controls == dict.fromkeys(CONTROLS, 0.0)

    plain, orders = (textured_clip(GEOMETRY) if thorough else clips[:1]), client.orders
    compared, (wrong_key, plain_clip, half) = recorder.encrypted[:count], recorder.encrypted[count : count + 3]
    for clip, values in zip(clips, compared, strict=True):
        np.testing.assert_array_equal(values[0], client.encrypt(PlainClip(values=clip)).values)
    right, cubes = (encrypt(PlainClip(values=plain), orders, layout=one).values for one in (layout, Layout.CUBES))
    wrong_key, plain_clip, half, right = (
        GEOMETRY.to_cubes(values, np) if layout is Layout.VIDEO else values
        for values in (wrong_key, plain_clip, half, right)
    )
    np.testing.assert_array_equal(plain_clip, GEOMETRY.to_cubes(plain, np))
    np.testing.assert_array_equal(half, GEOMETRY.to_cubes(plain, np)[:, orders.cube_order])
    np.testing.assert_array_equal(right, cubes)
    assert not np.array_equal(wrong_key.sum(axis=-1), right.sum(axis=-1))  # another order of cubes
    assert not np.array_equal(wrong_key.sum(axis=-2), right.sum(axis=-2))  # and of values in them
    assert not np.array_equal(wrong_key.sum(axis=-1), plain_clip.sum(axis=-1))
    np.testing.assert_array_equal(np.sort(wrong_key.sum(axis=-1)), np.sort(right.sum(axis=-1)))
    np.testing.assert_array_equal(
        recorder.plain[count + thorough], encrypt(PlainClip(values=plain), orders, layout=Layout.VIDEO).values
    )


@pytest.mark.parametrize(("thorough", "before"), [(False, 2), (True, 1)])
def test_controls_that_agree_are_tried_on_every_textured_clip(
    exported: Path, key: SecurityKey, thorough: bool, before: int
) -> None:
    client, recorder = Client.open(exported / "client", key), Recorder()
    measure_parity(recorder, recorder, client, noise_clip(GEOMETRY), thorough=thorough)
    textured = list(textured_clips(GEOMETRY))
    assert len({clip.tobytes() for clip in textured}) == 8
    for clip, asked in zip(textured, recorder.plain[before::2], strict=True):
        np.testing.assert_array_equal(asked, clip)


def test_only_a_control_that_agrees_is_tried_on_another_clip(exported: Path, key: SecurityKey) -> None:
    class HalfDeaf(Recorder):
        """Only the third control agrees on the first clip."""

        def run(self, clip: EncryptedClip) -> np.ndarray:
            return super().run(clip) + (0, 1, 2, 0, 4)[len(self.encrypted) - 1]

    session, plain = HalfDeaf(), Recorder()
    plain.logits = lambda clips: Recorder.logits(plain, clips) + 7 * (len(plain.plain) == 2)  # type: ignore[method-assign]
    report = measure_parity(session, plain, Client.open(exported / "client", key), noise_clip(GEOMETRY))
    assert report.ok
    assert report.controls == {
        "wrong_key": 1.0, "plain_into_scrambled": 2.0, "encrypted_into_plain": 7.0, "cubes_without_pixels": 4.0
    }  # fmt: skip
    assert (len(session.encrypted), len(plain.plain)) == (5, 3)


def test_every_evaluation_is_a_step_of_the_progress(exported: Path, key: SecurityKey) -> None:
    """Also those that were not expected, because controls agreed."""
    client, recorder = Client.open(exported / "client", key), Recorder()
    seen: list[tuple[int, int]] = []
    measure_parity(recorder, recorder, client, noise_clip(GEOMETRY), progress=lambda _, *steps: seen.append(steps))
    evaluations = len(recorder.encrypted) + len(recorder.plain)
    assert [done for done, _ in seen] == [0, *range(1, evaluations + 1), 1]
    assert seen[1] == (1, 6)
    assert all(done < total for done, total in seen[:-1])
    assert seen[-1] == (1, 1)


@pytest.mark.parametrize(("thorough", "evaluations"), [(False, 4), (True, 5)])
def test_a_control_that_agrees_by_chance_is_tried_on_another_clip(
    exported: Path, key: SecurityKey, thorough: bool, evaluations: int
) -> None:
    class Chance(Recorder):
        """Each control agrees on the first clip and misses by its own on the second."""

        def run(self, clip: EncryptedClip) -> np.ndarray:
            return super().run(clip) + max(0, len(self.encrypted) - 4)

    recorder = Chance()
    plain = Recorder()
    plain.logits = lambda clips: Recorder.logits(plain, clips) + 7 * (len(plain.plain) == evaluations)  # type: ignore[method-assign]
    client = Client.open(exported / "client", key)
    report = measure_parity(recorder, plain, client, noise_clip(GEOMETRY), thorough=thorough)
    assert report.ok
    assert report.controls == {
        "wrong_key": 1.0, "plain_into_scrambled": 2.0, "encrypted_into_plain": 7.0, "cubes_without_pixels": 3.0
    }  # fmt: skip
    assert len(plain.plain) == evaluations  # two clips were enough


def test_the_wrong_key_is_another_one_each_time(exported: Path, key: SecurityKey) -> None:
    client, recorder = Client.open(exported / "client", key), Recorder()
    for _ in range(2):
        measure_parity(recorder, recorder, client, noise_clip(GEOMETRY))
    half = len(recorder.encrypted) // 2
    first, second = recorder.encrypted[1], recorder.encrypted[half + 1]
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("thorough", "real"), [(False, 1), (True, 2)])
def test_parity_is_measured_on_real_clips_and_on_noise(
    exported: Path, key: SecurityKey, thorough: bool, real: int
) -> None:
    clips = comparison_clips(Client.open(exported / "client", key), (), thorough=thorough)
    np.testing.assert_array_equal(clips[:real], real_clips(GEOMETRY)[:real])
    np.testing.assert_array_equal(clips[real:], noise_clip(GEOMETRY))


@pytest.mark.parametrize(("thorough", "clips", "probes"), [(False, 2, 1), (True, 3, 2)])
def test_the_manifest_says_how_parity_was_measured(
    key: SecurityKey, tmp_path: Path, thorough: bool, clips: int, probes: int
) -> None:
    server = export_tiny(tmp_path / "out", key, thorough=thorough) / "server"
    manifest = read_manifest(server)
    assert manifest.parity.reference == f"built-in PyTorch, {'float64' if thorough else 'float32'}"
    assert manifest.parity.clips == clips
    assert len(read_probe(server, manifest).clip) == probes
    report = verify(tmp_path / "out", key=key, checkpoint=TINY.path, thorough=thorough)
    assert (report.reference, report.clips) == (manifest.parity.reference, clips)


def test_a_users_own_clips_are_what_is_compared(exported: Path, key: SecurityKey, clip: np.ndarray) -> None:
    client = Client.open(exported / "client", key)
    clips = comparison_clips(client, [ORACLE / "clip_8x32x32.npy", ORACLE / "clip_8x32x32.npy"])
    np.testing.assert_array_equal(clips, np.stack([clip, clip]))


@pytest.mark.parametrize("wrong", range(2))
def test_one_wrong_clip_among_right_ones_fails(exported: Path, key: SecurityKey, wrong: int) -> None:
    class WrongOnce(Recorder):
        def run(self, clip: EncryptedClip) -> np.ndarray:
            return super().run(clip) + (len(self.encrypted) == wrong + 1)

    recorder = WrongOnce()
    client = Client.open(exported / "client", key)
    report = measure_parity(recorder, recorder, client, comparison_clips(client, ()))
    assert (report.max_difference, report.clips) == (1.0, 2)


def test_the_bounds_are_those_that_the_documents_name() -> None:
    assert (RELATIVE_TOLERANCE, CONTROL_MARGIN, BUDGET_MARGIN) == (1e-4, 100.0, 3.0)


@pytest.mark.parametrize(("difference", "agrees"), [(0.25, True), (0.2500001, False), (0.5, False), (2.5, False)])
def test_a_difference_up_to_the_tolerance_agrees(difference: float, agrees: bool) -> None:
    received = EXPECTED.copy()
    received[1, 2] += difference
    report = compare(EXPECTED, received, reference="x", tolerance=0.25, controls=dict.fromkeys(CONTROLS, 26.0))
    assert report.agrees is report.ok is agrees
    if not agrees:
        with pytest.raises(ParityError, match="logits differ"):
            report.require_agreement()


@pytest.mark.parametrize(("margin", "gap", "misses"), [(100.0, 25.0, False), (100.0, 25.01, True), (3.0, 0.75, False)])
def test_a_control_must_exceed_its_margin(margin: float, gap: float, misses: bool) -> None:
    controls = dict.fromkeys(CONTROLS, 26.0) | {"wrong_key": gap}
    report = compare(EXPECTED, EXPECTED, reference="x", tolerance=0.25, controls=controls, margin=margin)
    assert report.control_minimum == margin * 0.25
    assert report.agreeing_controls == (() if misses else ("wrong_key",))


@pytest.mark.parametrize(("top", "agreement"), [(5, 0.0), (4, 1.0)])
def test_the_five_first_classes_are_compared_as_a_set(top: int, agreement: float) -> None:
    expected = np.arange(8.0)[None, ::-1].repeat(2, axis=0)
    received = expected.copy()
    received[:, [top, 3]] = received[:, [3, top]]  # with 4: within the first five; with 5: out of them
    assert compare(expected, received, reference="x").top5_agreement == agreement


def test_shares_are_of_all_clips() -> None:
    report = compare(EXPECTED, np.stack([EXPECTED[0], EXPECTED[1, ::-1]]), reference="x")
    assert (report.top1_agreement, report.top5_agreement) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("expected", "received"),
    [((2, 3), (2, 2)), ((3,), (3,)), ((0, 3), (0, 3)), ((2, 0), (2, 0)), ((1, 2, 3), (1, 3, 2))],
)
def test_only_clips_by_classes_are_compared(expected: tuple[int, ...], received: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        compare(np.zeros(expected), np.zeros(received), reference="x")


# Features, which have no classes and no natural scale


def test_the_tolerance_of_features_is_relative_to_them_however_small() -> None:
    small = EXPECTED * 1e-6
    report = compare(small, small, reference="x", has_classes=False)
    assert report.tolerance == pytest.approx(5e-6 * RELATIVE_TOLERANCE)
    assert report.scale == pytest.approx(5e-6)
    assert report.top1_agreement is None
    assert report.top5_agreement is None
    assert report.min_cosine == pytest.approx(1.0)
    assert not compare(small, small * 1.001, reference="x", has_classes=False).agrees
    assert compare(small, small * 1.001, reference="x").agrees  # as logits, they would pass


def test_the_smallest_cosine_of_all_vectors_counts() -> None:
    expected = np.array([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [0.0, 0.0]]])
    received = expected.copy()
    received[0, 1] = (1.2, 1.6)
    assert compare(expected, received, reference="x", has_classes=False).min_cosine == pytest.approx(0.8)
    received[1, 0] = (-3.0, 0.0)
    assert compare(expected, received, reference="x", has_classes=False).min_cosine == 0.0


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_features_that_are_not_numbers_never_agree(wrong: float) -> None:
    received = EXPECTED.copy()
    received[0, 0] = wrong
    report = compare(EXPECTED, received, reference="x", controls=FAR, has_classes=False)
    assert (report.ok, report.min_cosine) == (False, 0.0)


def test_features_that_are_all_zero_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="features that are not all zero"):
        compare(EXPECTED * 0, EXPECTED * 0, reference="x", has_classes=False)


def test_the_first_class_of_every_token_counts() -> None:
    expected = np.array([[[1.0, 0.0], [0.0, 2.0]]])
    received = np.array([[[1.0, 0.0], [3.0, 2.0]]])
    assert compare(expected, received, reference="x").top1_agreement == 0.5
