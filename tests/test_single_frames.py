"""A model of one frame: pictures as clips, alone and in batches, and what is said of frames that it does not see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lcve_deploy import Classifier, Client, PlainClip, SecurityKey, Views
from lcve_deploy.errors import VideoError
from lcve_deploy.verbs.batch import Job, find_videos
from lcve_deploy.verbs.export import export
from lcve_deploy.verbs.watch import WatchOptions
from lcve_deploy.video.decode import VideoWarning
from lcve_deploy.video.exif import exif_orientation
from tests.conftest import run_ok
from tests.support.tiny_models import save_single_frame

SUFFIXES = ("png", "bmp", "webp", "jpg", "tiff")
ROTATED = 6
"""EXIF orientation of a picture to be shown with its left side on top."""


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """A smooth picture of the size that the model takes."""
    rows, columns, channels = np.mgrid[:32, :32, :3]
    return (rows * 5 + columns * 3 * channels % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def key() -> SecurityKey:
    return SecurityKey(bytes(range(32)))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, key: SecurityKey) -> Path:
    folder = tmp_path_factory.mktemp("single")
    result = export(save_single_frame(folder / "checkpoint"), folder / "service", key=key)
    assert not [note for note in result.notes if note.startswith("sampling")]
    return result.folder


@pytest.fixture(scope="module")
def classifier(service: Path, key: SecurityKey) -> Classifier:
    return Classifier.open(service, key=key)


def test_arrays_of_a_picture_with_and_without_the_axis_of_frames(
    classifier: Classifier, pixels: np.ndarray, tmp_path: Path
) -> None:
    expected = classifier.classify(PlainClip(values=pixels[None, None])).logits
    for number, values in enumerate((pixels, pixels[None])):
        np.save(tmp_path / f"{number}.npy", values)
        np.testing.assert_array_equal(classifier.classify(tmp_path / f"{number}.npy").logits, expected)
        np.testing.assert_array_equal(classifier.classify(PlainClip(values=values)).logits, expected)
    np.save(tmp_path / "views.npy", np.stack([pixels, pixels]))
    with pytest.raises(VideoError, match=r"expected uint8 \[1, 32, 32, 3\] or \[32, 32, 3\]"):
        classifier.classify(tmp_path / "views.npy")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pictures_of_every_format(classifier: Classifier, pixels: np.ndarray, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.fromarray(pixels).save(path, lossless=True)
    found = classifier.classify(path)
    expected = classifier.classify(PlainClip(values=pixels)).logits
    tolerance = 0.3 if suffix == "jpg" else 1e-5
    np.testing.assert_allclose(found.logits, expected, atol=tolerance * np.abs(expected).max())
    assert found.notes == ()


def test_a_picture_is_shown_upright(classifier: Classifier, pixels: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = ROTATED
    Image.fromarray(pixels).save(tmp_path / "rotated.png", exif=exif)
    assert exif_orientation((tmp_path / "rotated.png").read_bytes()) == ROTATED
    upright = np.ascontiguousarray(np.rot90(pixels, -1))
    expected = classifier.classify(PlainClip(values=upright)).logits
    np.testing.assert_allclose(classifier.classify(tmp_path / "rotated.png").logits, expected, atol=1e-5)


def test_a_picture_there_and_back(service: Path, pixels: np.ndarray, key: SecurityKey, tmp_path: Path) -> None:
    key.write(tmp_path / "key.bin")
    Image.fromarray(pixels).save(tmp_path / "in.png")
    sides = ("--key", tmp_path / "key.bin", "--client", service / "client")
    run_ok("encrypt", tmp_path / "in.png", *sides, "-o", tmp_path / "clip.lcve")
    run_ok("decrypt", tmp_path / "clip.lcve", "--key", tmp_path / "key.bin", "-o", tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), pixels[None])
    run_ok("decrypt", tmp_path / "clip.lcve", "--key", tmp_path / "key.bin", "-o", tmp_path / "out.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "out.png")), pixels)


def test_a_folder_is_one_video_of_which_the_model_sees_one_picture(
    classifier: Classifier, pixels: np.ndarray, tmp_path: Path
) -> None:
    for number in range(3):
        Image.fromarray(pixels + number).save(tmp_path / f"{number}.png")
    with pytest.warns(VideoWarning, match=r"has 3 pictures, and the model takes one at a time: only 1.png is used"):
        found = classifier.classify(tmp_path)
    np.testing.assert_array_equal(found.logits, classifier.classify(PlainClip(values=pixels + 1)).logits)
    assert classifier.classify(tmp_path, views=Views(temporal=3)).notes == ()


def test_temporal_views_of_one_picture_are_the_same(classifier: Classifier, pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(np.tile(pixels, (1, 2, 1))).save(tmp_path / "wide.png")
    assert classifier.classify(tmp_path / "wide.png", views=Views(spatial=3)).notes == ()
    with pytest.warns(VideoWarning, match="1 frame for 2 temporal views: some views are the same"):
        found = classifier.classify(tmp_path / "wide.png", views=Views(temporal=2))
    np.testing.assert_array_equal(found.logits[0], found.logits[1])


def test_a_batch_finds_the_pictures_of_a_folder(
    service: Path, exported: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "pictures/more").mkdir(parents=True)
    for name in ("b.jpg", "a.png", "more/c.webp"):
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)
    found = find_videos([str(tmp_path / "pictures")], pictures=True)
    assert [Path(video.given).name for video in found] == ["a.png", "b.jpg", "c.webp"]
    with pytest.raises(VideoError, match="has no video files"):
        find_videos([str(tmp_path / "pictures")])
    job = Job(key_file=tmp_path / "key.bin", artifact=service)
    assert job.takes_pictures()
    assert dataclasses.replace(job, artifact=None, client=service / "client", encrypt_only=True).takes_pictures()
    assert not dataclasses.replace(job, artifact=exported).takes_pictures()
    assert not dataclasses.replace(job, artifact=tmp_path / "none").takes_pictures()


def test_a_watch_says_that_every_frame_is_sent(service: Path, key: SecurityKey) -> None:
    preprocess = Client.open(service / "client", key).settings.preprocess
    assert "every frame is sent" in WatchOptions().single_frame_note(preprocess)
    assert WatchOptions(hop=5).single_frame_note(preprocess) == ""
    assert WatchOptions().single_frame_note(dataclasses.replace(preprocess, frames=2)) == ""
