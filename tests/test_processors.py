"""Processors of Hugging Face folders: clips as of transformers itself, or a refusal that names the setting."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions, ClipGeometry, ExportOptions, SecurityKey
from lcve_deploy.errors import CheckpointError, VideoError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.model.preprocess import Preprocess, Resample, Rounding
from lcve_deploy.model.transformer import Normalisation
from lcve_deploy.verbs._client_settings import client_of
from lcve_deploy.video import encode_png, read_clips
from tests.conftest import ORACLE, run_error
from tests.test_checkpoints import folder

SIDES = {"height": 32, "width": 32}
SIZES = [(57, 75), (75, 57), (33, 33), (32, 91), (101, 45), (200, 333)]
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def picture(height: int, width: int) -> np.ndarray:
    """A picture without noise, whose every row and column differs from its neighbours."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 7 + k) + np.cos(columns / 9 - 2 * k) for k in range(3)]
    return np.round(127.5 + 55 * np.stack(waves, axis=-1)).astype(np.uint8)


def theirs(kind: str, settings: dict[str, Any]) -> Any:
    """A processor of transformers that needs no torchvision."""
    if kind == "VivitImageProcessor":
        from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

        return VivitImageProcessor(**settings)
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

    return VideoMAEImageProcessorPil(**settings)


def prepared(path: Path, key: SecurityKey) -> tuple[Preprocess, Normalisation]:
    """What an export of a folder would do to frames."""
    loaded = load_checkpoint(path)
    return client_of(loaded, key, ExportOptions()).settings.preprocess, loaded.model.normalisation


def ours(frame: np.ndarray, preprocess: Preprocess, place: Path) -> np.ndarray:
    """The first frame of the clip of a folder that repeats a picture."""
    place.mkdir()
    for i in range(preprocess.frames):
        (place / f"{i}.png").write_bytes(encode_png(frame))
    geometry = ClipGeometry(frames=8, height=preprocess.crop[0], width=preprocess.crop[1], channels=3, cube=(2, 8, 8))
    return read_clips(place, replace(preprocess, stride=1), geometry).clip.values[0, 0]


SETTINGS: dict[str, dict[str, Any]] = {
    "short side": {"size": {"shortest_edge": 40}, "crop_size": SIDES},
    "short side as a number": {"size": 40, "crop_size": 32},
    "short side of the crop": {"size": {"shortest_edge": 32}, "crop_size": SIDES},
    "squashed": {"size": SIDES, "do_center_crop": False},
    "squashed and cropped": {"size": {"height": 37, "width": 51}, "crop_size": SIDES},
    "not resized": {"do_resize": False, "crop_size": SIDES},
    "bicubic": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "resample": 3},
    "lanczos": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "resample": 1},
    "nearest": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "resample": 0},
    "no rescaling": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "do_rescale": False, "offset": False},
    "no normalisation": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "do_normalize": False},
    "another factor": {"size": {"shortest_edge": 40}, "crop_size": SIDES, "rescale_factor": 1 / 100},
}


@pytest.mark.parametrize("kind", ["VideoMAEImageProcessorPil", "VivitImageProcessor"])
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_clips_are_those_of_transformers_own_processors(
    tmp_path: Path, key: SecurityKey, kind: str, settings: dict[str, Any]
) -> None:
    """Where a frame is resized, values may differ by 2 of 255, at its edge by 8; a crop off by a pixel differs more."""
    pytest.importorskip("transformers")
    path = folder(tmp_path, "hf_videomae")
    processor = theirs(kind, settings)
    processor.save_pretrained(path)
    preprocess, normalisation = prepared(path, key)
    for height, width in SIZES:
        frame = picture(height, width)
        if settings.get("resample") == 0:  # the nearest pixel is another where two are as near: flat blocks
            frame = frame[::8, ::8].repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        expected = processor([frame], return_tensors="np")["pixel_values"][0, 0].transpose(1, 2, 0)
        clip = ours(frame, preprocess, tmp_path / f"{height}x{width}")
        made = (clip / 255 - normalisation.mean) / normalisation.std
        gap = np.abs(made - expected) * normalisation.std * 255
        if settings.get("resample") == 0:
            assert (gap > 0.01).mean() < 0.02
            continue
        exact = settings.get("do_resize") is False
        assert gap[1:-1, 1:-1].max() <= (0.01 if exact else 2.01), (height, width)
        assert gap.max() <= (0.01 if exact else 8.01), (height, width)


@pytest.mark.parametrize("slack", range(6))
def test_crops_start_where_transformers_has_them(tmp_path: Path, key: SecurityKey, slack: int) -> None:
    pytest.importorskip("transformers")
    path = folder(tmp_path, "hf_videomae")
    processor = theirs("VideoMAEImageProcessorPil", {"do_resize": False, "crop_size": SIDES, "do_normalize": False})
    processor.save_pretrained(path)
    preprocess, _ = prepared(path, key)
    frame = picture(32 + slack, 40 - slack)
    expected = processor([frame], return_tensors="np", do_rescale=False)["pixel_values"][0, 0].transpose(1, 2, 0)
    np.testing.assert_array_equal(ours(frame, preprocess, tmp_path / "frames"), expected)


FILES: dict[str, dict[str, Any]] = {
    "preprocessor_config.json": {"image_processor_type": "VideoMAEImageProcessor"},
    "video_preprocessor_config.json": {"video_processor_type": "VideoMAEVideoProcessor", "do_convert_rgb": True},
    "processor_config.json": {"video_processor": {"video_processor_type": "VideoMAEVideoProcessor"}},
}


@pytest.mark.parametrize(("name", "content"), FILES.items(), ids=FILES)
def test_every_file_of_a_processor_is_read(
    tmp_path: Path, key: SecurityKey, name: str, content: dict[str, Any]
) -> None:
    said = {**HALVES, "size": {"shortest_edge": 48}, "crop_size": SIDES, "resample": 3, "do_sample_frames": False}
    whole = {k: {**v, **said} for k, v in content.items()} if "video_processor" in content else {**content, **said}
    path = folder(tmp_path, "hf_videomae")
    (path / name).write_text(json.dumps(whole))
    preprocess, normalisation = prepared(path, key)
    assert (preprocess.short_side, preprocess.resample) == (48, Resample.BICUBIC)
    assert preprocess.crop_rounding is Rounding.DOWN
    assert normalisation == Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)


def test_the_video_processor_of_vivit_always_has_an_offset(tmp_path: Path) -> None:
    path = folder(tmp_path, "hf_vivit")
    said = {**HALVES, "video_processor_type": "VivitVideoProcessor", "size": 40, "crop_size": 32}
    (path / "video_preprocessor_config.json").write_text(json.dumps(said))
    np.testing.assert_allclose(load_checkpoint(path).model.normalisation.mean, [0.75] * 3)
    np.testing.assert_allclose(load_checkpoint(path).model.normalisation.std, [0.25] * 3)


def test_a_missing_size_is_that_of_the_class(tmp_path: Path, key: SecurityKey) -> None:
    for kind, expected in (("VideoMAEImageProcessor", 224), ("VivitImageProcessor", 256)):
        place = tmp_path / kind
        place.mkdir()
        path = folder(place, "hf_videomae")
        said = {**HALVES, "image_processor_type": kind, "crop_size": 32}
        (path / "preprocessor_config.json").write_text(json.dumps(said))
        assert prepared(path, key)[0].short_side == expected


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "longest edge": ({"size": {"shortest_edge": 40, "longest_edge": 60}}, "longest_edge"),
    "maximum": ({"size": {"max_height": 40, "max_width": 60}}, "max_height"),
    "text": ({"size": "40"}, "size 40"),
    "three sides": ({"size": [40, 40, 40]}, "size"),
    "zero": ({"size": 0}, "size 0"),
    "no crop": ({"size": 40, "do_center_crop": False}, "do_center_crop is off"),
    "no crop, another size": ({"size": {"height": 40, "width": 32}, "do_center_crop": False}, "do_center_crop is off"),
    "nothing at all": ({"do_resize": False, "do_center_crop": False}, "do_center_crop is off"),
    "another crop": ({"size": 40, "crop_size": 24}, "24 x 24, but the model takes 32 x 32"),
    "crop by its short side": ({"size": 40, "crop_size": {"shortest_edge": 32}}, "crop_size"),
    "padding": ({"size": 24, "crop_size": 32}, "pad them with black"),
    "padding of one side": ({"size": {"height": 40, "width": 24}, "crop_size": 32}, "pad them with black"),
    "box": ({"size": 40, "resample": 4}, "resample 4 is the box"),
    "hamming": ({"size": 40, "resample": 5}, "resample 5 is the Hamming"),
    "unknown filter": ({"size": 40, "resample": "bilinear"}, "resample 'bilinear'"),
    "padding on": ({"size": 40, "do_pad": True}, "do_pad is on"),
    "channels": ({"size": 40, "do_flip_channel_order": True}, "do_flip_channel_order is on"),
    "sampling": ({"size": 40, "do_sample_frames": True, "num_frames": 8}, "do_sample_frames is on"),
    "another class": ({"size": 40, "image_processor_type": "SamImageProcessor"}, "SamImageProcessor"),
    "offset of none": ({"size": 40, "offset": True}, "offset is true"),
    "offset that cannot go": (
        {"size": 40, "offset": False, "video_processor_type": "VivitVideoProcessor"},
        "offset is false",
    ),
    "offset alone": ({"size": 40, "image_processor_type": "VivitImageProcessor", "do_rescale": False}, "do_rescale"),
    "switch": ({"size": 40, "do_resize": "yes"}, "do_resize"),
    "factor": ({"size": 40, "rescale_factor": -1}, "rescale_factor"),
    "factor beyond numbers": ({"size": 40, "rescale_factor": 10**400}, "rescale_factor"),
    "factor of nothing": ({"size": 40, "rescale_factor": 1e-320}, "rescale_factor"),
    "a list of one": ({"size": 40, "image_mean": [0.5]}, "one number or three for image_mean"),
    "four channels": ({"size": 40, "image_std": [0.5] * 4}, "one number or three above zero for image_std"),
    "no channels": ({"size": 40, "image_mean": []}, "image_mean"),
    "not a number": ({"size": 40, "image_mean": [float("nan")] * 3}, "image_mean"),
    "beyond numbers": ({"size": 40, "image_mean": [10**400] * 3}, "image_mean"),
    "no spread": ({"size": 40, "image_std": [0.5, 0, 0.5]}, "image_std"),
}


@pytest.mark.parametrize(("settings", "named"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_done_is_refused_by_its_name(tmp_path: Path, settings: dict[str, Any], named: str) -> None:
    path = folder(tmp_path, "hf_videomae")
    (path / "preprocessor_config.json").write_text(json.dumps({**HALVES, **settings}))
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(path)
    assert "preprocessor_config.json" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("kind", "named"), [("VideoMAEImageProcessor", "no image_mean"), ("SamImageProcessor", "SamImageProcessor")]
)
def test_a_processor_that_is_only_named_is_not_passed_over(tmp_path: Path, kind: str, named: str) -> None:
    """Its class has defaults, which are not the ImageNet statistics."""
    path = folder(tmp_path, "hf_videomae")
    (path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": kind}))
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(path)


def test_files_that_say_different_things_are_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "hf_videomae")
    for name, side in (("preprocessor_config.json", 40), ("video_preprocessor_config.json", 48)):
        (path / name).write_text(json.dumps({**HALVES, "size": side, "crop_size": 32}))
    with pytest.raises(CheckpointError, match=r"video_preprocessor_config\.json and preprocessor_config\.json"):
        load_checkpoint(path)


def test_the_owner_can_do_without_a_processor(tmp_path: Path, key: SecurityKey) -> None:
    path = folder(tmp_path, "hf_videomae")
    (path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "SamImageProcessor"}))
    halves = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    options = CheckpointOptions(normalisation=halves, short_side=36)
    loaded = load_checkpoint(path, options)
    assert loaded.model.normalisation == halves
    client = client_of(loaded, key, ExportOptions(checkpoint=options))
    assert client.settings.preprocess.short_side == 36


def test_a_short_side_that_nothing_says_is_an_assumption(tmp_path: Path, key: SecurityKey) -> None:
    loaded = load_checkpoint(folder(tmp_path, "hf_videomae"))
    assert any("--short-side" in str(a) for a in client_of(loaded, key, ExportOptions()).settings.assumptions)
    said = ExportOptions(checkpoint=CheckpointOptions(short_side=40))
    assert not any("--short-side" in str(a) for a in client_of(loaded, key, said).settings.assumptions)


def test_a_short_side_below_the_clip_is_one_clear_error(tmp_path: Path, key_file: Path) -> None:
    path = folder(tmp_path, "hf_videomae")
    arguments = ("export", "--key", key_file, "--ckpt", path, "-o", tmp_path / "service", "--short-side", 20)
    assert "expected a short side of at least" in run_error(*arguments)


def test_frames_that_are_not_resized_must_hold_the_crop(tmp_path: Path) -> None:
    preprocess = Preprocess(frames=8, stride=1, crop=(32, 32))
    with pytest.raises(VideoError, match="31 x 40"):
        ours(picture(31, 40), preprocess, tmp_path / "frames")


@pytest.mark.parametrize("changes", [{"size": (40, 40), "short_side": 40}, {"size": (31, 40)}, {"size": (9000, 40)}])
def test_sizes_that_make_no_clip_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Preprocess(frames=8, crop=(32, 32), **changes)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_clips_are_those_of_the_processor_of_vjepa2(tmp_path: Path, key: SecurityKey, height: int, width: int) -> None:
    """The class needs torchvision, so its clips are stored: crop_size 32, and a size of 99, which does not count."""
    path = Path(shutil.copytree(ORACLE / "folders/vjepa2", tmp_path / "model"))
    settings = json.loads((path / "video_preprocessor_config.json").read_text())
    (path / "video_preprocessor_config.json").write_text(json.dumps({**settings, "size": {"shortest_edge": 99}}))
    preprocess, _ = prepared(path, key)
    assert preprocess.short_side == 36
    with np.load(ORACLE / "vjepa2_processor.npz") as stored:
        expected = stored[f"{height}x{width}"].astype(float)
    gap = np.abs(ours(picture(height, width), preprocess, tmp_path / "frames") - expected)
    assert gap[1:-1, 1:-1].max() <= 2
    assert gap.max() <= 8
