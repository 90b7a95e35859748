"""Files played as streams."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy.errors import VideoError
from lcve_deploy.video import live
from lcve_deploy.video.live import LiveOptions, LiveSource
from lcve_deploy.video.moments import MediaClock
from tests.test_video import counting_frames, damaged_video, make_video
from tests.watch.helpers import (
    never,
    noisy_frames,
    windows_of,
)


def test_a_looped_file_goes_on_in_frames_and_positions(tmp_path: Path) -> None:
    path = make_video(tmp_path / "video.mp4", counting_frames(10))
    source = LiveSource(str(path), LiveOptions(loop=True))
    moments = [frame.moment for frame in itertools.islice(source.frames(never), 35)]
    assert [moment.frame for moment in moments] == list(range(35))
    steps = np.diff([moment.position for moment in moments])
    assert steps.min() > 0.03
    assert steps.max() < 0.05
    assert source.reconnects == 0


def test_a_file_in_real_time_waits_for_each_frame_and_never_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    year = 365 * 24 * 3600 * 1000
    path = make_video(tmp_path / "video.mkv", counting_frames(5), times=[0, 40, 80, 120, year])
    pauses: list[float] = []
    monkeypatch.setattr(live, "pause", lambda seconds, stop: pauses.append(seconds))
    source = LiveSource(str(path), LiveOptions(realtime=True, timeout=7))
    assert source.is_live
    assert len(list(source.frames(never))) == 5
    assert len(pauses) == 5
    assert pauses[-1] == 7
    assert all(wait <= index * 0.04 for index, wait in enumerate(pauses[:4]))


def test_a_video_that_ends_in_the_middle_of_a_frame_gives_what_it_has(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "whole.ts", noisy_frames(60), codec="libx264")
    path = tmp_path / "cut.ts"
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 5])
    cut, complete = windows_of(path), windows_of(whole)
    assert 0 < len(cut) < len(complete)
    np.testing.assert_array_equal(cut[0].clip.values, complete[0].clip.values)
    assert windows_of(path, hop=1)


@pytest.mark.parametrize("loop", [False, True])
def test_a_file_without_a_good_frame_is_an_error_and_not_played_for_ever(tmp_path: Path, loop: bool) -> None:
    path = damaged_video(tmp_path / "damaged.mp4", range(0, 30))
    with pytest.raises(VideoError, match="no frame of"):
        windows_of(path, loop=loop)


def test_the_clock_of_a_stream_goes_on_where_the_stream_begins_anew() -> None:
    clock = MediaClock()
    clock.restart(25)
    assert [clock.position(seconds) for seconds in (None, 100.04, 100.08, 100.0)] == pytest.approx(
        [0, 0.04, 0.08, 0.08]
    )
    clock.restart(None, gap=2)
    assert clock.position(5.0) == pytest.approx(2.12)
    assert clock.position(None) == pytest.approx(2.16)
