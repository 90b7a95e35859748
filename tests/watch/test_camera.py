"""A stand-in for a camera, over RTSP."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lcve_deploy.errors import VideoError
from lcve_deploy.video import live
from lcve_deploy.video.live import LiveOptions, LiveSource
from tests.support.fake_camera import FakeCamera
from tests.test_video import numbers
from tests.watch.helpers import (
    SECRET,
    never,
)


def take(source: LiveSource, count: int) -> list[live.LiveFrame]:
    frames = source.frames(never)
    try:
        return list(itertools.islice(frames, count))
    finally:
        frames.close()  # type: ignore[attr-defined]


def test_frames_of_a_camera_are_those_that_it_sent() -> None:
    with FakeCamera() as camera:
        frames = take(LiveSource(camera.address()), 40)
    assert [frame.index for frame in frames] == [frame.moment.frame for frame in frames] == list(range(40))
    pictures = np.stack([frame.picture.to_ndarray(format="rgb24") for frame in frames])
    assert np.abs(np.array(numbers(pictures)) - np.array([*range(25), *range(15)])).max() <= 1
    np.testing.assert_allclose(np.diff([frame.moment.position for frame in frames]), 1 / 25, atol=0.001)


def test_a_camera_whose_stream_ends_is_opened_again() -> None:
    told: list[str] = []
    with FakeCamera(account=f"eve:{SECRET}", frames=12) as camera:
        source = LiveSource(camera.address(f"eve:{SECRET}"), on_reconnect=told.append)
        frames = take(source, 30)
        assert source.reconnects == 2
        assert camera.connections == 3
    assert [frame.index for frame in frames if frame.index == 0] == [0, 0, 0]
    positions = [frame.moment.position for frame in frames]
    assert positions == sorted(positions)
    assert len(told) == 2
    assert SECRET not in "".join(told)


def test_a_camera_that_falls_silent_is_opened_again() -> None:
    told: list[str] = []
    with FakeCamera(silent_after=10) as camera:
        source = LiveSource(camera.address(), LiveOptions(timeout=0.5), on_reconnect=told.append)
        frames = take(source, 15)
        assert source.reconnects >= 1  # more where the camera's own thread had to wait for half a second
    assert len(frames) == 15
    assert "received nothing for 0." in told[0]


def test_a_camera_wants_its_password() -> None:
    with (
        FakeCamera(account="eve:another") as camera,
        pytest.raises(VideoError, match="401 Unauthorized") as caught,
    ):
        LiveSource(camera.address(f"eve:{SECRET}")).open()
    assert SECRET not in str(caught.value)
