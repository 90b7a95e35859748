"""Reconnecting, with files in place of a camera's streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.errors import VideoError
from lcve_deploy.video import live
from lcve_deploy.video.live import MAX_DAMAGED
from tests.test_video import counting_frames, damaged_video, make_video
from tests.watch.helpers import (
    SECRET,
    Streams,
    never,
)


def test_a_camera_is_opened_again_with_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "video.mp4", counting_frames(18))
    streams = Streams(monkeypatch, path, None, None, None, path, path)
    source = streams.source(reconnects=5, max_pause=3)
    frames: list[Any] = []
    with pytest.raises(VideoError, match=r"it is away\); gave up after 5 attempts") as caught:
        frames.extend(source.frames(never))
    assert source.reconnects == 2
    assert [frame.index for frame in frames] == [*range(18)] * 3
    assert [frame.moment.frame for frame in frames] == list(range(54))
    assert streams.pauses == [0.5, 1, 2, 3, 0.5, 0.5, 1, 2, 3, 3]
    positions = [frame.moment.position for frame in frames]
    assert positions == sorted(positions)
    assert len(streams.told) == 10
    assert "the stream ended; reconnecting in 0.5 s (attempt 1 of 5)" in streams.told[0]
    assert SECRET not in "".join(streams.told) + str(caught.value)


def test_a_stream_without_a_good_frame_counts_as_one_attempt_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_video(tmp_path / "video.mp4", counting_frames(10))
    bad = damaged_video(tmp_path / "damaged.mp4", range(0, 30))
    streams = Streams(monkeypatch, good, bad, bad, bad, bad)
    source = streams.source(reconnects=3)
    with pytest.raises(VideoError, match="gave up after 3 attempts"):
        list(source.frames(never))
    assert (source.reconnects, source.damaged > 0, len(streams.left)) == (3, True, 1)


def test_too_many_damaged_frames_in_a_row_are_a_break(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "video.mp4", counting_frames(10))
    streams = Streams(monkeypatch, path)
    monkeypatch.setattr(live, "decoded", lambda packets: iter([None] * (2 * MAX_DAMAGED)))
    source = streams.source(reconnects=0)
    with pytest.raises(VideoError, match=f"{MAX_DAMAGED + 1} damaged frames in a row"):
        list(source.frames(never))


def test_a_stop_is_heeded_between_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "video.mp4", counting_frames(10))
    streams = Streams(monkeypatch, path)
    assert len(list(streams.source().frames(lambda: len(streams.pauses) > 3))) == 10
