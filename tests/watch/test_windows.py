"""Windows."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video import live, read_clips
from lcve_deploy.video.live import LiveSource
from lcve_deploy.video.moments import Moment
from lcve_deploy.video.windows import SlidingWindows, window_length
from tests.conftest import GEOMETRY
from tests.test_video import damaged_video, make_video
from tests.watch.helpers import (
    PREPROCESS,
    never,
    noisy_frames,
    windows_of,
)


def part_of(path: Path, output: Path, frames: range) -> Path:
    """A video of some frames of one in which each is coded by itself; the same packets."""
    with av.open(str(path)) as whole, av.open(str(output), "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(video=0) if packet.size]
        for packet in packets[frames.start : frames.stop]:
            packet.stream = stream
            part.mux(packet)
    return output


@pytest.mark.parametrize("hop", [None, 1, 3, 5, 20])
@pytest.mark.parametrize(
    ("sampling", "stride"), [("kinetics", 1), ("kinetics", 2), ("kinetics", 3), ("uniform", 1), ("uniform", 2)]
)
def test_a_window_is_what_is_read_from_a_video_of_its_frames(
    tmp_path: Path, sampling: str, stride: int, hop: int | None
) -> None:
    preprocess = Preprocess(frames=8, stride=stride, sampling=Sampling(sampling), short_side=32, crop=(32, 32))
    path = make_video(tmp_path / "video.mkv", noisy_frames(60), codec="mjpeg")
    length = window_length(preprocess)
    windows = windows_of(path, preprocess, hop=hop)
    starts = range(0, 60 - length + 1, hop or length)
    assert [window.number for window in windows] == list(range(len(windows)))
    assert len(windows) >= len(starts)  # of uniform sampling, the last frames of a window are not needed
    for start, window in zip(starts, windows, strict=False):
        part = part_of(path, tmp_path / f"{start}.mkv", range(start, start + length))
        expected = read_clips(part, preprocess, GEOMETRY).clip.values
        np.testing.assert_array_equal(window.clip.values, expected)
        assert window.clip.values.dtype == np.uint8


def test_the_first_window_of_a_file_is_its_clip(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", noisy_frames(15))
    (window,) = windows_of(path)
    np.testing.assert_array_equal(window.clip.values, read_clips(path, PREPROCESS, GEOMETRY).clip.values)


def test_a_damaged_frame_is_stood_in_for_as_in_a_file_that_is_sampled(tmp_path: Path) -> None:
    path = damaged_video(tmp_path / "damaged.mp4", range(10, 13))
    whole = Preprocess(frames=8, stride=4, short_side=32, crop=(32, 32))
    source = LiveSource(str(path))
    windows = SlidingWindows(whole, name=source.name)
    (window,) = [window for frame in source.frames(never) if (window := windows.add(frame))]
    with pytest.warns(UserWarning, match=f"{source.damaged} damaged frames"):
        expected = read_clips(path, whole, GEOMETRY).clip.values
    np.testing.assert_array_equal(window.clip.values, expected)
    assert (window.first.frame, window.last.frame) == (0, 28)


def test_no_window_has_frames_from_before_a_break_or_of_another_size() -> None:
    def frame(number: int, index: int, width: int) -> live.LiveFrame:
        image = np.full((48, width, 3), 4 * number, np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        return live.LiveFrame(index=index, moment=Moment.now(frame=number, position=number / 25), picture=picture)

    frames = [frame(number, number, 64) for number in range(20)]  # one window and a part of the next
    frames += [frame(20 + number, number, 64) for number in range(18)]  # after a break
    frames += [frame(38 + number, 18 + number, 80) for number in range(16)]  # the same stream, wider
    windows = SlidingWindows(PREPROCESS, name="x")
    seen = [window for frame in frames if (window := windows.add(frame))]
    assert [(w.number, w.first.frame, w.last.frame) for w in seen] == [(0, 0, 14), (1, 20, 34), (2, 38, 52)]
    for window in seen:
        values = [round(float(image.mean()) / 4) for image in window.clip.values[0]]
        assert values == list(range(window.first.frame, window.last.frame + 1, 2))


def test_a_hop_below_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SlidingWindows(PREPROCESS, hop=0, name="x")
