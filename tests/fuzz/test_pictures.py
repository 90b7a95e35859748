"""Videos and images."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.targets import GEOMETRY, PREPROCESS, quiet
from lcve_deploy import ClipGeometry
from lcve_deploy.errors import LcveError, VideoError
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video import read_clips
from lcve_deploy.video.decode import MAX_FRAME_PIXELS
from tests.fuzz.helpers import (
    gif,
    png,
    read,
    refusal,
    seed,
)


def test_frames_have_a_limit() -> None:
    assert "pixels" in refusal("video", gif(16000, 16000))
    refusal("video", gif(65535, 65535))
    refusal("video", png(16000, 4400))


def test_frames_of_the_largest_video_are_read() -> None:
    """8K, 7680 x 4320."""
    assert MAX_FRAME_PIXELS >= 2 * 7680 * 4320
    assert not isinstance(read("video", png(7680, 4320)), LcveError)


@pytest.mark.parametrize("size", [(1, 30000), (30000, 1)])
def test_a_narrow_frame_does_not_grow_without_end(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its shorter side is enlarged, and the longer one with it."""
    (tmp_path / "1.png").write_bytes(png(*size))
    geometry = ClipGeometry.parse("16x512x512x3/2x16x16")
    preprocess = Preprocess(frames=16, short_side=512, crop=(512, 512))
    with pytest.raises(VideoError, match="would take more than"):
        read_clips(tmp_path, preprocess, geometry)


def test_a_text_that_is_not_unicode_does_no_harm() -> None:
    """Names in a file are not needed; one that was not UTF-8 was a UnicodeDecodeError."""
    data = seed("video", "mp4").replace(b"VideoHandler", b"Video\xa8\xff\xfender")
    assert data != seed("video", "mp4")
    assert not isinstance(read("video", data), LcveError)


def test_a_codec_without_a_decoder_is_refused() -> None:
    refusal("video", seed("video", "matroska").replace(b"V_MPEG4/ISO/ASP", b"V_UNCOMPRESSED\0"))


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(seed("video", "mp4"))
    for name, content in {
        "a.m3u8": "#EXTM3U\n#EXTINF:1,\nreal.mp4\n",
        "a.ffconcat": "ffconcat version 1.0\nfile real.mp4\n",
        "a.mp4": "#EXTM3U\n#EXTINF:1,\nreal.mp4\n",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(VideoError):
            read_clips(tmp_path / name, PREPROCESS, GEOMETRY)


def test_a_folder_with_very_many_names_is_read(tmp_path: Path) -> None:
    for i in range(20_000):
        (tmp_path / f"{i}.txt").touch()
    with pytest.raises(VideoError, match="no images"):
        read_clips(tmp_path, PREPROCESS, GEOMETRY)
    (tmp_path / ("9" * 200 + ".png")).write_bytes(png(8, 8))
    with quiet():
        assert read_clips(tmp_path, PREPROCESS, GEOMETRY).clip.values.shape == (1, *GEOMETRY.clip_shape)
