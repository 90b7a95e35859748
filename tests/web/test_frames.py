"""Frames that the page reads from files, against PyAV: the same frames, and nearly the same pixels."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.clips import Views
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess, Resample, Sampling
from lcve_deploy.video import read_clips
from lcve_deploy.video.decode import load_av
from tests.support.browser import Browser, BrowserError
from tests.support.pages import WebPage
from tests.web.conftest import film

MAX_MEAN = 2.0
"""Levels of 255; docs/guides/web.md has the figures."""
GEOMETRY = ClipGeometry.parse("8x32x32x3/2x8x8")
PREPROCESS = Preprocess(frames=8, stride=2, short_side=40, crop=(32, 32))
READ = """async ({ preprocess, views }) => {
  const { openVideo, readClips, FrameReader, frameIndices } = await import("/client/video/index.js");
  const track = await openVideo(document.querySelector("#video-file").files[0]);
  const plan = frameIndices(track.total, preprocess, views[0]);
  const clips = await readClips(track, new FrameReader(preprocess), plan, views[1]);
  return { total: track.total, clips: btoa(Array.from(clips, (byte) => String.fromCharCode(byte)).join("")) };
}"""
ROTATED = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)


def frames() -> np.ndarray:
    """32 frames of film, each lighter than the one before, so that no two can be confused."""
    light = np.arange(32)[:, None, None, None] * 5
    return (film()[:, :72] * 0.35 + light).astype(np.uint8)


def write(
    path: Path,
    codec: str = "libx264",
    *,
    times: list[int] | None = None,
    muxer: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Encode the frames, at these milliseconds."""
    av = load_av()
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=25, options=options or {"crf": "8", "bf": "3", "g": "10"})
        stream.height, stream.width, stream.pix_fmt = *frames().shape[1:3], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = (times[number] if times else 40 * number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def uneven(path: Path) -> Path:
    return write(path, times=[int(time) for time in np.cumsum([40, 40, 200, 10, 10, 90, 33, 41] * 4)])


def fragmented(path: Path) -> Path:
    return write(path, muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"})


def edited(path: Path) -> Path:
    """The edit list leaves out the first frames."""
    return write(path, times=[40 * (number - 6) for number in range(32)])


def rotated(path: Path) -> Path:
    data = bytearray(write(path).read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + len(ROTATED)] = ROTATED
    path.write_bytes(data)
    return path


FILES: dict[str, Callable[[Path], Path]] = {
    "h264.mp4": write,
    "h264.mov": write,
    "h264.mkv": write,
    "uneven.mp4": uneven,
    "uneven.mkv": uneven,
    "fragmented.mp4": fragmented,
    "edited.mp4": edited,
    "rotated.mp4": rotated,
    "vp8.webm": lambda path: write(path, "libvpx", options={"crf": "8", "b": "4M"}),
    "vp9.webm": lambda path: write(path, "libvpx-vp9", options={"crf": "12", "b": "0"}),
    "vp9.mp4": lambda path: write(path, "libvpx-vp9", options={"crf": "12", "b": "0"}),
    "av1.mkv": lambda path: write(path, "libsvtav1", options={"crf": "20"}),
    "full_range.mp4": lambda path: write(path, options={"crf": "8", "x264-params": "fullrange=on:colormatrix=bt709"}),
}


def read_on_page(
    browser: Browser, path: Path, preprocess: Preprocess, views: tuple[int, int] = (1, 1)
) -> tuple[int, np.ndarray]:
    """Number of frames and clips, as the page reads them."""
    browser.files("#video-file", path)
    settings: dict[str, Any] = {
        "frames": preprocess.frames,
        "stride": preprocess.stride,
        "sampling": preprocess.sampling.value,
        "shortSide": preprocess.short_side,
        "size": preprocess.size,
        "resample": preprocess.resample.value,
        "crop": preprocess.crop,
        "cropRounding": preprocess.crop_rounding.value,
    }
    found = browser.evaluate(READ, {"preprocess": settings, "views": views})
    clips = np.frombuffer(base64.b64decode(found["clips"]), np.uint8)
    return found["total"], clips.reshape(views[0] * views[1], *GEOMETRY.clip_shape)


@pytest.fixture(scope="module")
def reader(browser: Browser, page: WebPage) -> Browser:
    browser.open(page.url)
    browser.evaluate("() => { document.querySelector('#video-file').disabled = false; }")
    return browser


def require_alike(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Compare clips; and that each frame is nearest to the same frame."""
    assert np.abs(ours.astype(int) - theirs).mean() < MAX_MEAN
    light, expected = ours.mean(axis=(2, 3, 4)), theirs.mean(axis=(2, 3, 4))
    apart = np.abs(light[:, :, None] - expected[:, None, :])
    assert (np.diff(expected, axis=1) > 4).all()
    assert (apart.argmin(axis=2) == np.arange(light.shape[1])).all()


@pytest.mark.parametrize("name", FILES)
def test_frame_i_is_frame_i(reader: Browser, tmp_path: Path, name: str) -> None:
    path = FILES[name](tmp_path / name)
    total, ours = read_on_page(reader, path, PREPROCESS)
    assert total == (26 if "edited" in name else 32)
    require_alike(ours, read_clips(path, PREPROCESS, GEOMETRY).clip.values)


@pytest.mark.parametrize(
    "changes",
    [
        *({"resample": kind} for kind in Resample),
        {"short_side": None},
        {"short_side": None, "size": (40, 36)},
        {"short_side": 96},
        {"sampling": Sampling.UNIFORM},
    ],
    ids=str,
)
def test_pixels_are_nearly_those_of_pyav(reader: Browser, tmp_path: Path, changes: dict[str, Any]) -> None:
    preprocess = replace(PREPROCESS, **changes)
    path = write(tmp_path / "video.mp4")
    _, ours = read_on_page(reader, path, preprocess)
    require_alike(ours, read_clips(path, preprocess, GEOMETRY).clip.values)


def test_views_are_those_of_pyav(reader: Browser, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4")
    _, ours = read_on_page(reader, path, PREPROCESS, (2, 3))
    require_alike(ours, read_clips(path, PREPROCESS, GEOMETRY, Views(temporal=2, spatial=3)).clip.values)


def test_a_short_video_repeats_its_last_frame(reader: Browser, tmp_path: Path) -> None:
    path = write(tmp_path / "video.mp4")
    preprocess = replace(PREPROCESS, stride=9)
    _, ours = read_on_page(reader, path, preprocess)
    assert (ours[0, 4:] == ours[0, 4]).all()


def test_what_is_cut_off_within_the_frames_is_one_error(reader: Browser, tmp_path: Path) -> None:
    whole = fragmented(tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.rindex(b"mdat") + 40])
    with pytest.raises(BrowserError, match="cut off"):
        read_on_page(reader, path, replace(PREPROCESS, stride=9))
