"""What one processor file says, setting by setting: defaults of each class, bounds, and what errors show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.processors import PROCESSORS, Processor, read_processors
from lcve_deploy.model.preprocess import Resample
from lcve_deploy.model.transformer import Normalisation

PLACE = Path("preprocessor_config.json")
UNSAID = {"do_normalize": False}
VIVIT = [name for name in PROCESSORS if name.startswith("Vivit")]
VIDEO = [name for name in PROCESSORS if name.startswith(("Vivit", "VideoMAE", "Timesformer"))]


def processor(kind: str = "VideoMAEImageProcessor", /, **settings: Any) -> Processor:
    return Processor(PLACE, settings, kind)


def read_all(made: Processor, crop: tuple[int, int]) -> None:
    made.framing(crop)
    made.normalisation()


def problem(crop: tuple[int, int] = (224, 224), /, **settings: Any) -> CheckpointError:
    """The error of a processor with these settings."""
    with pytest.raises(CheckpointError) as caught:
        read_all(processor(**settings), crop)
    assert str(PLACE) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", VIDEO)
def test_defaults_are_those_of_the_class(kind: str) -> None:
    vivit = kind in VIVIT
    assert processor(kind).framing((224, 224)) == Framing(short_side=256 if vivit else 224)
    normalisation = processor(kind, do_normalize=False).normalisation()
    assert normalisation == Normalisation(mean=(0.5 if vivit else 0.0,) * 3, std=(0.5 if vivit else 1.0,) * 3)


@pytest.mark.parametrize("crop", [(112, 112), (224, 112), (112, 224), (224, 225), (223, 224)])
def test_defaults_of_sizes_are_for_models_of_224_pixels(crop: tuple[int, int]) -> None:
    assert processor().framing(crop) is None


def test_settings_that_are_null_are_not_said() -> None:
    names = ("size", "crop_size", "resample", "do_pad", "image_processor_type")
    assert processor(**dict.fromkeys(names)).framing((224, 224)) == Framing(short_side=224)
    assert processor(**UNSAID, rescale_factor=None, offset=None).normalisation().std == (1.0,) * 3


@pytest.mark.parametrize("name", ["do_resize", "do_center_crop", "do_rescale", "do_normalize"])
def test_a_switch_that_is_null_is_off_in_transformers(name: str) -> None:
    assert f"{name} is null" in str(problem(**{**UNSAID, name: None}))


def test_a_square_size_that_old_files_ask_for_is_refused() -> None:
    assert "use_square_size is on" in str(problem(use_square_size=True))
    assert processor(use_square_size=False).framing((224, 224)) == Framing(short_side=224)


@pytest.mark.parametrize(
    ("size", "framing"),
    [
        (240, Framing(short_side=240)),
        ({"shortest_edge": 240}, Framing(short_side=240)),
        ({"shortest_edge": 240, "longest_edge": None}, Framing(short_side=240)),
        ([240, 320], Framing(size=(240, 320))),
        ({"height": 240, "width": 320}, Framing(size=(240, 320))),
        ({"height": 224, "width": 224}, Framing(size=(224, 224))),
    ],
)
def test_sizes(size: object, framing: Framing) -> None:
    assert processor(size=size).framing((224, 224)) == framing


def test_a_number_can_be_a_square() -> None:
    assert processor(size=240, default_to_square=True).framing((224, 224)) == Framing(size=(240, 240))


@pytest.mark.parametrize("size", [0, -1, 2**20, True, 224.0, "224", [240], [240, 320, 3], {}, {"height": 240}])
def test_sizes_that_are_none(size: object) -> None:
    error = problem(size=size)
    assert f"size {str(size)[:120]} is invalid" in str(error)
    assert '{"height": H, "width": W} or {"shortest_edge": N} alone, each from 1 to' in error.hint


@pytest.mark.parametrize("size", [{"shortest_edge": 224}, [224], 0, {"height": 224, "width": 0}])
def test_crops_that_are_none(size: object) -> None:
    error = problem(crop_size=size)
    assert f"crop_size {size} is invalid" in str(error)
    assert '{"height": H, "width": W}, each from 1 to' in error.hint


def test_a_long_value_is_shown_in_part() -> None:
    said = ["x" * 300]
    assert f"size {str(said)[:120]} is invalid" in str(problem(size=said))
    assert f"the processor {'x' * 80!r} is unknown" in str(problem(image_processor_type="x" * 300))
    assert f"resample {str(said)[:80]!r} is unknown" in str(problem(resample=said, **UNSAID))
    assert str(problem(rescale_factor="x" * 300, **UNSAID)).endswith(f"received {'x' * 80}")
    assert str(problem(image_mean="x" * 300)).endswith(f"received {'x' * 80}")
    assert str(problem(do_resize="x" * 300, **UNSAID)).endswith(f"received {'x' * 80!r}")


@pytest.mark.parametrize(
    ("settings", "crop", "message"),
    [
        ({"crop_size": {"height": 112, "width": 224}}, (224, 224), "crop_size makes clips of 112 x 224, but the model"),
        ({"crop_size": {"height": 224, "width": 112}}, (224, 224), "makes clips of 224 x 112, but the model"),
        ({"do_center_crop": False}, (112, 224), "but the model takes 112 x 224 (height x width)"),
        ({"size": {"height": 100, "width": 300}, "crop_size": 112}, (112, 112), "smaller than the crop of 112 x 112"),
        ({"size": {"height": 300, "width": 100}, "crop_size": 112}, (112, 112), "smaller than the crop of 112 x 112"),
        ({"size": [111, 224], "crop_size": {"height": 112, "width": 224}}, (112, 224), "than the crop of 112 x 224"),
        ({"size": [112, 223], "crop_size": {"height": 112, "width": 224}}, (112, 224), "than the crop of 112 x 224"),
        (
            {"size": 300},
            (112, 112),
            "without crop_size, VideoMAEImageProcessor makes clips of 224 x 224, but the model",
        ),
        ({"size": 223}, (224, 224), "smaller than the crop"),
    ],
)
def test_clips_of_another_size_are_refused(settings: dict[str, Any], crop: tuple[int, int], message: str) -> None:
    assert message in str(problem(crop, **UNSAID, **settings))


@pytest.mark.parametrize("kind", ["ViTImageProcessor", "SiglipImageProcessor", "DINOv3ViTImageProcessor"])
def test_a_crop_without_a_size_is_refused_as_in_transformers(kind: str) -> None:
    made = processor(kind, do_center_crop=True, size={"height": 256, "width": 256})
    for read in (lambda: made.framing((224, 224)), made.output_size):
        with pytest.raises(CheckpointError, match=f"without a crop_size, and {kind} has none, so transformers refuses"):
            read()


def test_a_class_that_does_not_crop_may_have_a_crop_size() -> None:
    made = processor("BeitImageProcessor", do_center_crop=True, size={"height": 256, "width": 256})
    assert made.output_size() == (224, 224)
    assert made.framing((224, 224)) == Framing(size=(256, 256), resample=Resample.BICUBIC)
    assert processor("BeitImageProcessor", size={"height": 256, "width": 256}).output_size() == (256, 256)


@pytest.mark.parametrize("crop", [(112, 224), (224, 112)])
def test_frames_may_be_of_the_size_of_the_crop(crop: tuple[int, int]) -> None:
    size = {"height": crop[0], "width": crop[1]}
    assert processor(size=size, crop_size=size).framing(crop) == Framing(size=crop)
    assert processor(size=size, do_center_crop=False).framing(crop) == Framing(size=crop)
    assert processor(do_resize=False, crop_size=size).framing(crop) == Framing()


@pytest.mark.parametrize(
    ("number", "kind"),
    [(0, Resample.NEAREST), (1, Resample.LANCZOS), (2, Resample.BILINEAR), (3, Resample.BICUBIC)],
)
def test_filters_have_pillows_numbers(number: int, kind: Resample) -> None:
    framing = processor(resample=number).framing((224, 224))
    assert framing is not None
    assert framing.resample is kind


@pytest.mark.parametrize(
    ("number", "message"),
    [(4, "resample 4 is the box filter"), (5, "resample 5 is the Hamming filter"), (6, "resample '6' is unknown")],
)
def test_other_filters_are_refused(number: int, message: str) -> None:
    assert message in str(problem(resample=number, **UNSAID))


@pytest.mark.parametrize("factor", [1e-6, 1e6, 1])
def test_a_rescale_factor_of_any_sensible_size(factor: float) -> None:
    (std, *_) = processor(**UNSAID, rescale_factor=factor).normalisation().std
    assert std == pytest.approx(1 / (255 * factor))


@pytest.mark.parametrize("factor", [0.999e-6, 1.001e6, 0, -1, True, "1"])
def test_a_rescale_factor_that_is_none(factor: object) -> None:
    assert "expected a rescale_factor above zero" in str(problem(**UNSAID, rescale_factor=factor))


def test_one_number_is_for_all_channels() -> None:
    assert processor(image_mean=0.5, image_std=0.25).normalisation() == Normalisation(mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize("mean", [-1e6, 0, 1e6])
def test_a_mean_of_any_sensible_size(mean: float) -> None:
    assert processor(image_mean=mean, image_std=1e6).normalisation().mean == (mean,) * 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_mean": 1.001e6}, "expected one number or three for image_mean, received"),
        ({"image_mean": [0, 0]}, "expected one number or three for image_mean, received"),
        ({"image_mean": [0, 0, 0, 0]}, "expected one number or three for image_mean, received"),
        ({"image_mean": [0, 0, True]}, "expected one number or three for image_mean, received"),
        ({"image_mean": 0, "image_std": 0}, "expected one number or three above zero for image_std, received"),
        ({"image_mean": 0, "image_std": [1, 1, 0]}, "expected one number or three above zero for image_std, received"),
        ({"image_mean": 0}, "do_normalize is on, but there is no image_std"),
        ({}, "do_normalize is on, but there is no image_mean"),
    ],
)
def test_channels_that_are_none(settings: dict[str, Any], message: str) -> None:
    assert message in str(problem(**settings))


@pytest.mark.parametrize("kind", VIVIT)
def test_an_offset_moves_the_mean(kind: str) -> None:
    settings = {"image_mean": 0.5, "image_std": 0.5, "rescale_factor": 1 / 255}
    assert processor(kind, **settings).normalisation() == Normalisation(mean=(1.5,) * 3, std=(0.5,) * 3)


def test_an_offset_can_be_said_where_the_class_reads_it() -> None:
    settings = {"image_mean": 0.5, "image_std": 0.5, "rescale_factor": 1 / 255}
    assert processor("VivitImageProcessor", **settings, offset=False).normalisation().mean == (0.5,) * 3
    assert "but the processor that the file names ignores it" in str(problem(offset=True))
    with pytest.raises(CheckpointError, match="offset is false, but the processor"):
        processor("VivitVideoProcessor", **UNSAID, offset=False).normalisation()
    with pytest.raises(CheckpointError, match="offset is on and do_rescale is off"):
        processor("VivitImageProcessor", **UNSAID, do_rescale=False).normalisation()


def test_without_rescaling_values_are_0_to_255() -> None:
    assert processor(do_rescale=False, image_mean=127.5, image_std=255).normalisation() == Normalisation(
        mean=(0.5,) * 3, std=(1.0,) * 3
    )
    without = processor("VivitVideoProcessor", do_rescale=False, image_mean=127.5, image_std=255).normalisation()
    assert without.mean == (0.5,) * 3


def test_a_switch_that_is_not_known_may_be_off() -> None:
    processor(do_pad=False)
    assert "do_pad is on, which this version does not support" in str(problem(do_pad=True))
    assert "expected true or false for do_pad, received '1'" in str(problem(do_pad=1))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"size": 240}, 1),
        ({"note": "text"}, 0),
        ({"image_processor": {"size": 240}}, 1),
        ({"image_processor": {"size": 240}, "video_processor": {"size": 240}}, 2),
        ({"image_processor": "text", "size": 240}, 1),
        ({"image_processor": {"note": "text"}, "size": 240}, 0),
    ],
)
def test_files_that_say_nothing_are_passed_over(tmp_path: Path, content: dict[str, Any], found: int) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps(content))
    read = read_processors(tmp_path, "VideoMAEImageProcessor")
    assert [each.framing((224, 224)) for each in read] == [Framing(short_side=240)] * found
