"""The picture of frames under every method: each row is what its method gives, and the file shows it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paper.findings.compared import PLAIN
from paper.methods.downsampling import downsample
from paper.methods.table import DOWNSAMPLINGS, ENCRYPTIONS, METHODS, experiment_key
from paper.page import pictures
from paper.page.pictures import FRAMES, SHOWN, SIDE, Subject, frames, places, subjects, write_frames

DOCS = Path(__file__).parents[1] / "docs/evidence"


@pytest.fixture(scope="module")
def both() -> tuple[Subject, ...]:
    return subjects()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "frames.png"
    write_frames(path)
    return path


def test_the_picture_is_a_png_of_moderate_size(written: Path) -> None:
    with Image.open(written) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert picture.width <= 1400
        assert not picture.info, "no date, no version"
    assert written.stat().st_size < 10**6


def test_the_same_clips_give_the_same_bytes(written: Path, tmp_path: Path) -> None:
    write_frames(tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == written.read_bytes()


def test_the_picture_beside_the_page_is_this_one(written: Path) -> None:
    """Letters may differ: other versions of Matplotlib draw them otherwise."""
    there, here = _pixels(DOCS / "paper-frames.png"), _pixels(written)
    assert there.shape == here.shape
    for _, top, left in places():
        block = slice(top, top + SIDE), slice(left, left + pictures._BLOCK)
        assert np.array_equal(there[block], here[block])


def test_every_method_has_a_place_of_its_own() -> None:
    assert [name for name, _, _ in places()] == [PLAIN, *METHODS]
    assert len({(top, left) for _, top, left in places()}) == len(SHOWN)


def test_levels_of_an_encryption_stand_side_by_side() -> None:
    tops = {name: top for name, top, _ in places()}
    for method in ENCRYPTIONS:
        first = method.name.split("-")[0]
        assert tops[f"{first}-frame"] == tops[f"{first}-video"]


def test_rows_are_what_the_methods_give(both: tuple[Subject, ...]) -> None:
    for subject in both:
        chosen = list(FRAMES)
        assert np.array_equal(frames(subject, PLAIN), subject.clips[0, chosen])
        for reduced in DOWNSAMPLINGS:
            assert np.array_equal(
                frames(subject, reduced.name), downsample(subject.clips[:, chosen], reduced.factor)[0]
            )
        for method in ENCRYPTIONS:
            keyed = method.keyed(experiment_key(0), subject.geometry)
            encrypted = keyed.encrypt(subject.clips)
            assert np.array_equal(frames(subject, method.name), encrypted[0, chosen])
            assert np.array_equal(keyed.decrypt(encrypted), subject.clips)


def test_the_file_shows_the_rows(both: tuple[Subject, ...], written: Path) -> None:
    pixels = _pixels(written)
    for name, top, left in places():
        for pair, subject in enumerate(both):
            start = pictures._pair_left(left, pair)
            there = pixels[top : top + SIDE, start : start + pictures._PAIR]
            for frame, shown in zip(frames(subject, name), (there[:, :SIDE], there[:, -SIDE:]), strict=True):
                part = subject.part(frame)
                assert part.shape == (SIDE, SIDE, 3)
                assert np.abs(shown - part).max() <= 4, (name, subject.title)


def test_labels_name_the_level_of_encryptions_alone() -> None:
    labels = [pictures._label(name) for name in SHOWN]
    assert labels[:2] == ["Plain video", "Downsampling 2×"]
    assert labels[-2:] == ["LCVE, frame level", "LCVE, video level"]
    assert len(set(labels)) == len(SHOWN)


def test_the_page_shows_the_picture_and_credits_the_film() -> None:
    text = (DOCS / "paper.md").read_text(encoding="utf-8")
    assert re.search(r"!\[[^]]+\]\(paper-frames\.png\)", text)
    for said in (text, pictures._NOTE.replace("©", "(c)")):
        assert '"Big Buck Bunny" (c) 2008 Blender Foundation' in said
        assert "CC BY 3.0" in said


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)
