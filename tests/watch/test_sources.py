"""What may be opened."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.errors import VideoError
from lcve_deploy.video.live import LiveOptions, LiveSource
from lcve_deploy.video.sources import RtspTransport, SourceKind, parse_source
from tests.watch.helpers import (
    ADDRESS,
    SECRET,
)


@pytest.mark.parametrize(
    "source",
    ["http://eve:ge-heim@host/x", "file:///etc/passwd", "rtsps://host/x", "rtmp://host/x", "udp://@:1", "tcp://h:1"],
)
def test_other_addresses_are_refused_and_not_shown(source: str) -> None:
    with pytest.raises(VideoError, match="expected rtsp://host/path") as caught:
        LiveSource(source)
    assert "ge-heim" not in str(caught.value)


@pytest.mark.parametrize("source", ["rtsp://", "rtsp://eve:12/ge-heim@host/x", "rtsp://host:port/x", "rtsp:///x"])
def test_an_address_that_cannot_be_told_apart_is_refused_and_not_shown(source: str) -> None:
    with pytest.raises(VideoError, match="expected an RTSP address"):
        LiveSource(source)


@pytest.mark.parametrize("content", [b"", b"some text\n", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n"])
def test_files_that_are_no_video_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"video\.mp4"):
        LiveSource(str(path)).open()


def test_folders_and_what_is_missing_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.mp4", "concat:a|b", "/dev/null"):
        with pytest.raises(VideoError):
            LiveSource(str(path))


def test_each_source_is_opened_as_what_it_is() -> None:
    kind, opened = parse_source(ADDRESS, transport=RtspTransport.TCP, timeout=3)
    assert (kind, opened.format, opened.name) == (SourceKind.RTSP, "rtsp", "rtsp://127.0.0.1:1")
    assert opened.options["rtsp_transport"] == opened.options["protocol_whitelist"] == "tcp"
    assert opened.options["format_whitelist"] == "rtsp"
    assert SECRET not in repr(opened) + repr(LiveSource(ADDRESS))
    kind, opened = parse_source("/dev/video3", transport=RtspTransport.TCP, timeout=3)
    assert (kind, opened.format, opened.address) == (SourceKind.CAMERA, "v4l2", "/dev/video3")
    assert parse_source("rtsp://[::1]:8554/x", transport=RtspTransport.UDP, timeout=3)[1].name == "rtsp://[::1]:8554"


def test_cameras_have_no_loop_and_no_pace() -> None:
    for options in (LiveOptions(loop=True), LiveOptions(realtime=True)):
        with pytest.raises(VideoError, match="is a camera"):
            LiveSource(ADDRESS, options)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"reconnects": -1}, {"max_pause": -1}])
def test_live_options_have_ranges(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected timeout > 0"):
        LiveOptions(**options)


def test_a_camera_that_is_away_or_dead_is_noticed_without_its_password() -> None:
    with pytest.raises(VideoError, match=r"rtsp://127\.0\.0\.1:1 cannot be opened") as caught:
        LiveSource(ADDRESS).open()
    with socket.create_server(("127.0.0.1", 0)) as mute:
        dead = LiveSource(ADDRESS.replace(":1/", f":{mute.getsockname()[1]}/"), LiveOptions(timeout=0.3))
        with pytest.raises(VideoError, match="cannot be opened") as silent:
            dead.open()
    for error in (caught.value, silent.value):
        assert SECRET not in str(error) + error.hint + repr(error)
