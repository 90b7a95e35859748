"""Processors of image models: the pictures of transformers' own classes, from photographs, and their defaults."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.processors import Processor
from lcve_deploy.model.preprocess import Preprocess, Resample, Rounding
from lcve_deploy.video import encode_png, read_clips

pytest.importorskip("transformers")
data = pytest.importorskip("skimage.data")

STEMS = ("ViT", "CLIP", "Bit", "Siglip", "Beit", "DeiT")
CROP = (224, 224)
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")


def theirs(stem: str, **settings: Any) -> Any:
    """A processor of transformers that needs no torchvision, which gives the same values up to 1 of 255."""
    name = stem.lower()
    return getattr(
        importlib.import_module(f"transformers.models.{name}.image_processing_pil_{name}"), f"{stem}ImageProcessorPil"
    )(**settings)


def ours(stem: str, **settings: Any) -> Processor:
    return Processor(Path("preprocessor_config.json"), settings, f"{stem}ImageProcessor")


def photograph(name: str) -> np.ndarray:
    return np.ascontiguousarray(getattr(data, name)()[:300, :480])


def prepared(picture: np.ndarray, framing: Framing, place: Path) -> np.ndarray:
    place.write_bytes(encode_png(picture))
    preprocess = Preprocess(
        frames=1,
        stride=1,
        short_side=framing.short_side,
        size=framing.size,
        resample=framing.resample,
        crop=CROP,
        crop_rounding=Rounding.DOWN,
    )
    return read_clips(place, preprocess, ClipGeometry.parse("1x224x224x3/1x16x16")).clip.values[0, 0]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("stem", STEMS)
def test_photographs_are_those_of_transformers(tmp_path: Path, stem: str, name: str) -> None:
    """FFmpeg's filters are not Pillow's at sharp edges; a wrong filter or crop differs more on average."""
    processor = theirs(stem)
    mine = ours(stem, **json.loads(processor.to_json_string()))
    framing, normalisation = mine.framing(CROP), mine.normalisation()
    assert framing is not None
    picture = photograph(name)
    expected = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    clip = prepared(picture, framing, tmp_path / "picture.png")
    gap = np.abs((clip / 255 - normalisation.mean) / normalisation.std - expected) * normalisation.std * 255
    assert gap.mean() < 0.5
    assert (gap > 2.01).mean() < 0.02
    assert gap.max() < 24


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_another_filter_differs_more(tmp_path: Path, name: str) -> None:
    picture = photograph(name)
    right, wrong = (
        prepared(picture, Framing(size=CROP, resample=kind), tmp_path / f"{kind}.png").astype(float)
        for kind in (Resample.BILINEAR, Resample.BICUBIC)
    )
    expected = theirs("ViT", do_normalize=False, do_rescale=False)(picture, return_tensors="np")["pixel_values"][0]
    near, far = (np.abs(clip - expected.transpose(1, 2, 0)).mean() for clip in (right, wrong))
    assert far > 3 * near


@pytest.mark.parametrize("stem", [*STEMS, "Siglip2"])
def test_defaults_are_those_of_transformers(stem: str) -> None:
    processor = theirs(stem)
    assert ours(stem).normalisation() == ours(stem, **json.loads(processor.to_json_string())).normalisation()
    assert ours(stem).framing(CROP) == ours(stem, **json.loads(processor.to_json_string())).framing(CROP)


@pytest.mark.parametrize("stem", STEMS)
def test_a_number_as_size_is_read_as_in_transformers(stem: str) -> None:
    """Files that older versions wrote."""
    settings = {"size": 256, **({"crop_size": 224} if ours(stem)._crops else {})}
    written = json.loads(theirs(stem, **settings).to_json_string())
    if stem == "Siglip":  # its number is a short side, so pictures keep their aspect
        with pytest.raises(CheckpointError, match="do_center_crop is off"):
            ours(stem, **written).framing(CROP)
        return
    crop = CROP if ours(stem)._crops else (256, 256)
    assert ours(stem, **settings).framing(crop) == ours(stem, **written).framing(crop)


def test_the_size_of_processed_pictures() -> None:
    assert ours("ViT").output_size() == (224, 224)
    assert ours("CLIP", crop_size={"height": 32, "width": 48}).output_size() == (32, 48)
    assert ours("DeiT", crop_size=192).output_size() == (192, 192)
    assert ours("ViT", size={"height": 32, "width": 48}).output_size() == (32, 48)
    assert ours("CLIP", do_center_crop=False, size=256).output_size() is None
    assert ours("ViT", do_resize=False).output_size() is None
    assert ours("Siglip2").output_size() is None


def test_a_processor_that_keeps_the_aspect_is_squashed() -> None:
    assert ours("Siglip2").keeps_aspect
    assert ours("Siglip2", size={"height": 1, "width": 1}).framing((32, 48)) == Framing(size=(32, 48))
    with pytest.raises(CheckpointError, match="do_resize is off, so clips have the size of the picture"):
        ours("Siglip2", do_resize=False).framing((32, 48))
