"""Live sources, windows, the pipeline of ``lcve watch``, and the command."""

from __future__ import annotations

import itertools
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from benchmarks.watching import MAX_SPREAD, make_film, served, watch
from lcve_deploy import Client, SecurityKey
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import UnavailableError, VideoError
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.verbs.watch import Counts, Outcome, Watch, WatchOptions, WindowResult
from lcve_deploy.verbs.watch.queues import Ordered, Waiting
from lcve_deploy.video import live, read_clips
from lcve_deploy.video.decode import Opened
from lcve_deploy.video.live import MAX_DAMAGED, LiveOptions, LiveSource
from lcve_deploy.video.moments import MediaClock, Moment
from lcve_deploy.video.sources import RtspTransport, SourceKind, recognised
from lcve_deploy.video.windows import SlidingWindows, Window, window_length

from . import fake_server as fake
from .conftest import GEOMETRY, run_error
from .fake_camera import FakeCamera
from .fake_server import GrpcServer, Model
from .test_video import counting_frames, damaged_video, make_video, numbers

PREPROCESS = Preprocess(frames=8, stride=2, short_side=32, crop=(32, 32))
SECRET = "ge-heim"
ADDRESS = f"rtsp://eve:{SECRET}@127.0.0.1:1/{SECRET}?token={SECRET}"


def never() -> bool:
    return False


def noisy_frames(count: int, height: int = 48, width: int = 72) -> np.ndarray:
    """Frames with detail, each another one."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (count, height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def windows_of(
    path: Path, preprocess: Preprocess = PREPROCESS, *, hop: int | None = None, **options: Any
) -> list[Window]:
    source = LiveSource(str(path), LiveOptions(**options))
    windows = SlidingWindows(preprocess, hop=hop, name=source.name)
    return [window for frame in source.frames(never) if (window := windows.add(frame))]


def part_of(path: Path, output: Path, frames: range) -> Path:
    """A video of some frames of one in which each is coded by itself; the same packets."""
    with av.open(str(path)) as whole, av.open(str(output), "w") as part:
        stream = part.add_stream_from_template(whole.streams.video[0])
        packets = [packet for packet in whole.demux(video=0) if packet.size]
        for packet in packets[frames.start : frames.stop]:
            packet.stream = stream
            part.mux(packet)
    return output


# Windows


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


# Files played as streams


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


# What may be opened


@pytest.mark.parametrize(
    "source",
    ["http://eve:ge-heim@host/x", "file:///etc/passwd", "rtsps://host/x", "rtmp://host/x", "udp://@:1", "tcp://h:1"],
)
def test_other_addresses_are_refused_and_not_shown(source: str) -> None:
    with pytest.raises(VideoError, match="a live source is") as caught:
        LiveSource(source)
    assert "ge-heim" not in str(caught.value)


@pytest.mark.parametrize("source", ["rtsp://", "rtsp://eve:12/ge-heim@host/x", "rtsp://host:port/x", "rtsp:///x"])
def test_an_address_that_cannot_be_told_apart_is_refused_and_not_shown(source: str) -> None:
    with pytest.raises(VideoError, match="not an address of RTSP"):
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
    kind, opened = recognised(ADDRESS, transport=RtspTransport.TCP, timeout=3)
    assert (kind, opened.format, opened.name) == (SourceKind.RTSP, "rtsp", "rtsp://127.0.0.1:1")
    assert opened.options["rtsp_transport"] == opened.options["protocol_whitelist"] == "tcp"
    assert opened.options["format_whitelist"] == "rtsp"
    assert SECRET not in repr(opened) + repr(LiveSource(ADDRESS))
    kind, opened = recognised("/dev/video3", transport=RtspTransport.TCP, timeout=3)
    assert (kind, opened.format, opened.address) == (SourceKind.CAMERA, "v4l2", "/dev/video3")
    assert recognised("rtsp://[::1]:8554/x", transport=RtspTransport.UDP, timeout=3)[1].name == "rtsp://[::1]:8554"


def test_cameras_have_no_loop_and_no_pace() -> None:
    for options in (LiveOptions(loop=True), LiveOptions(realtime=True)):
        with pytest.raises(VideoError, match="its own pace"):
            LiveSource(ADDRESS, options)


@pytest.mark.parametrize("options", [{"timeout": 0}, {"reconnects": -1}, {"longest_pause": -1}])
def test_live_options_have_ranges(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a timeout"):
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


# A stand-in for a camera, over RTSP


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
        source = LiveSource(camera.address(f"eve:{SECRET}"), told=told.append)
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
        source = LiveSource(camera.address(), LiveOptions(timeout=0.5), told=told.append)
        frames = take(source, 15)
        assert source.reconnects >= 1  # more where the camera's own thread had to wait for half a second
    assert len(frames) == 15
    assert "nothing came for 0." in told[0]


def test_a_camera_wants_its_password() -> None:
    with (
        FakeCamera(account="eve:another") as camera,
        pytest.raises(VideoError, match="401 Unauthorized") as caught,
    ):
        LiveSource(camera.address(f"eve:{SECRET}")).open()
    assert SECRET not in str(caught.value)


# Reconnecting, with files in place of a camera's streams


class Streams:
    """What a camera gives each time it is opened: a file, or nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *streams: Path | None) -> None:
        self.left, self.pauses, self.told = list(streams), list[float](), list[str]()
        self._opened = Opened
        monkeypatch.setattr(live, "Opened", self._open)
        monkeypatch.setattr(live, "pause", lambda seconds, stop: self.pauses.append(seconds))

    def _open(self, source: Any) -> Any:
        stream = self.left.pop(0) if self.left else None
        if stream is None:
            raise VideoError(f"{source.name} cannot be opened (it is away)")
        return self._opened(recognised(str(stream), transport=RtspTransport.TCP, timeout=1)[1])

    def source(self, **options: Any) -> LiveSource:
        return LiveSource(ADDRESS, LiveOptions(**options), told=self.told.append)


def test_a_camera_is_opened_again_with_longer_and_longer_pauses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_video(tmp_path / "video.mp4", counting_frames(18))
    streams = Streams(monkeypatch, path, None, None, None, path, path)
    source = streams.source(reconnects=5, longest_pause=3)
    frames: list[Any] = []
    with pytest.raises(VideoError, match=r"it is away\); given up after 5 attempts") as caught:
        frames.extend(source.frames(never))
    assert source.reconnects == 2
    assert [frame.index for frame in frames] == [*range(18)] * 3
    assert [frame.moment.frame for frame in frames] == list(range(54))
    assert streams.pauses == [0.5, 1, 2, 3, 0.5, 0.5, 1, 2, 3, 3]
    positions = [frame.moment.position for frame in frames]
    assert positions == sorted(positions)
    assert len(streams.told) == 10
    assert "the stream ended; opening it again in 0.5 s (attempt 1 of 5)" in streams.told[0]
    assert SECRET not in "".join(streams.told) + str(caught.value)


def test_a_stream_without_a_good_frame_counts_as_one_attempt_of_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = make_video(tmp_path / "video.mp4", counting_frames(10))
    bad = damaged_video(tmp_path / "damaged.mp4", range(0, 30))
    streams = Streams(monkeypatch, good, bad, bad, bad, bad)
    source = streams.source(reconnects=3)
    with pytest.raises(VideoError, match="given up after 3 attempts"):
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


# Queues


def result(number: int) -> WindowResult:
    moment = Moment.now(frame=number, position=0)
    return WindowResult(number=number, first=moment, last=moment, outcome=Outcome.ANSWERED)


def test_where_places_are_short_the_oldest_goes() -> None:
    queue = Waiting[int](2, dropping=True)
    assert [queue.put(number) for number in range(5)] == [None, None, 0, 1, 2]
    queue.close()
    assert queue.put(9) == 9
    assert [queue.take(), queue.take(), queue.take()] == [3, 4, None]


def test_where_nothing_may_be_dropped_a_newcomer_waits() -> None:
    queue, lost = Waiting[int](1, dropping=False), list[int | None]()
    adding = threading.Thread(target=lambda: lost.extend(queue.put(number) for number in range(50)))
    adding.start()
    assert [queue.take() for _ in range(50)] == list(range(50))
    adding.join()
    assert lost == [None] * 50
    assert queue.put(50) is None
    waiting = threading.Thread(target=lambda: lost.append(queue.put(51)))
    waiting.start()
    assert queue.clear() == [50]  # and whoever waits for a place is told that there is none
    waiting.join()
    assert lost[-1] in (51, None)


def test_results_leave_in_order_and_few_are_held() -> None:
    ordered, rng = Ordered(4), np.random.default_rng(0)
    turns = iter(range(200))
    held = []

    def work() -> None:
        for number in turns:
            time.sleep(float(rng.random()) / 2000)
            ordered.put(result(number))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen: list[Any] = []
    while len(seen) < 200:
        held.append(len(ordered._held))
        taken = ordered.take(5)
        assert taken is not None
        seen.append(taken.number)
    assert seen == list(range(200))
    assert max(held) <= 5
    assert ordered.is_empty
    assert ordered.take(0) is None


# The pipeline, with a stand-in for the server


class Answers:
    """Logits that depend on the clip, once the gate is open."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.gate, self.clips, self.lock = threading.Event(), list[np.ndarray](), threading.Lock()
        self.at_once = self.most_at_once = 0
        if is_open:
            self.gate.set()

    def run(self, clip: EncryptedClip) -> np.ndarray:
        with self.lock:
            self.clips.append(clip.values)
            number = len(self.clips) - 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.gate.wait(60)
        logits = self.answer(number, clip)
        with self.lock:
            self.at_once -= 1
        return logits

    def answer(self, number: int, clip: EncryptedClip) -> np.ndarray:
        return fake.logits_of(clip.values)


@pytest.fixture
def client(exported: Path, key: SecurityKey) -> Client:
    return Client.open(exported / "client", key)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten windows of 8 frames."""
    return make_video(tmp_path / "film.mp4", noisy_frames(80))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time without waiting."""
    monkeypatch.setattr(live, "pause", lambda seconds, stop: None)


def all_results(watch: Watch, *, each: Callable[[WindowResult | None], None] | None = None) -> list[WindowResult]:
    seen = []
    for result in watch.results(patience=0.02):
        if each:
            each(result)
        if result:
            seen.append(result)
    return seen


def check_books(seen: list[WindowResult]) -> Counts:
    """Each window has one result, in order, and the counts follow them."""
    assert [result.number for result in seen] == list(range(len(seen)))
    for result in seen:
        assert bool(result.predictions) == (result.outcome is Outcome.ANSWERED)
        assert bool(result.error) == (result.outcome is Outcome.FAILED)
        assert (result.latency is None) == (result.outcome is Outcome.DROPPED)
    for number, result in enumerate(seen):
        outcomes = [other.outcome for other in seen[: number + 1]]
        for outcome in Outcome:
            assert getattr(result.counts, outcome) == outcomes.count(outcome)
    return seen[-1].counts


def test_every_window_is_encrypted_sent_and_answered(client: Client, film: Path) -> None:
    answers = Answers()
    with Watch(LiveSource(str(film)), client, answers, WatchOptions(in_flight=1, hop=5, top=3)) as watch:
        seen = all_results(watch)
    assert check_books(seen) == watch.counts == Counts(answered=15)
    windows = windows_of(film, client.settings.preprocess, hop=5)
    assert len(windows) == 15
    for window, result, sent in zip(windows, seen, answers.clips, strict=True):
        encrypted = client.encrypt(window.clip)
        np.testing.assert_array_equal(sent, encrypted.values)
        expected = client.predict(client.plain_order(fake.logits_of(encrypted.values)), top=3)
        assert list(result.predictions) == expected
        assert (result.first.frame, result.last.frame) == (window.first.frame, window.last.frame)
        assert result.first.position == window.first.position


def test_results_are_in_order_where_answers_are_not(client: Client, film: Path) -> None:
    class Uneven(Answers):
        def answer(self, number: int, clip: EncryptedClip) -> np.ndarray:
            time.sleep(0.03 * (number % 3 == 0))
            return super().answer(number, clip)

    answers = Uneven()
    with Watch(LiveSource(str(film)), client, answers, WatchOptions(in_flight=3, hop=2)) as watch:
        seen = all_results(watch)
    assert check_books(seen) == Counts(answered=37)
    assert 1 < answers.most_at_once <= 3


def test_a_file_waits_for_the_server_and_memory_is_bounded(client: Client, film: Path) -> None:
    answers, source = Answers(is_open=False), LiveSource(str(film), LiveOptions(loop=True))
    with Watch(source, client, answers, WatchOptions(in_flight=2, waiting=2, windows=40)) as watch:
        seen_frames = -1
        while seen_frames != source.frames_seen:
            seen_frames = source.frames_seen
            time.sleep(0.3)
        # Two requests, two windows that wait after and two before the encryption, one in hand on either side of it.
        assert seen_frames <= 8 * (2 + 2 + 2 + 2)
        answers.gate.set()
        seen = all_results(watch)
    assert check_books(seen) == Counts(answered=40)


@pytest.mark.usefixtures("at_once")
def test_where_the_server_is_slower_than_a_camera_the_oldest_windows_go(client: Client, film: Path) -> None:
    answers, source = Answers(is_open=False), LiveSource(str(film), LiveOptions(realtime=True, loop=True))
    with Watch(source, client, answers, WatchOptions(in_flight=1, waiting=2, windows=50)) as watch:
        while watch._others[0].is_running():  # the encryption of the last window
            time.sleep(0.01)
        answers.gate.set()
        seen = all_results(watch)
    counts = check_books(seen)
    assert counts.windows == 50
    dropped = [result.number for result in seen if result.outcome is Outcome.DROPPED]
    assert len(dropped) >= 50 - 1 - 2 * 2 - 1
    first = next(result.number for result in seen if result.outcome is Outcome.ANSWERED)
    assert dropped == [number for number in range(dropped[-1] + 1) if number != first]  # what waits is the newest


def test_failures_are_told_and_passed_over(client: Client, film: Path) -> None:
    class Failing(Answers):
        def answer(self, number: int, clip: EncryptedClip) -> np.ndarray:
            logits = super().answer(number, clip)
            if number == 2:
                raise UnavailableError("the server is away")
            return {4: logits * np.nan, 6: logits[:, :3], 8: np.concatenate([logits, logits])}.get(number, logits)

    with Watch(LiveSource(str(film)), client, Failing(), WatchOptions(in_flight=1)) as watch:
        seen = all_results(watch)
    assert check_books(seen) == Counts(answered=6, failed=4)
    errors = {result.number: result.error for result in seen if result.error}
    assert errors[2] == "the server is away"
    assert "NaN" in errors[4]
    assert "received [1, 3]" in errors[6]
    assert "received [2, 5]" in errors[8]


@pytest.mark.parametrize("place", ["run", "encrypt"])
def test_a_defect_is_raised_and_hangs_nothing(
    client: Client, film: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    answers = Answers()
    if place == "run":
        monkeypatch.setattr(answers, "run", broken)
    else:
        monkeypatch.setattr(Client, "encrypt", broken)
    with pytest.raises(ZeroDivisionError), Watch(LiveSource(str(film)), client, answers) as watch:
        all_results(watch)


@pytest.mark.usefixtures("at_once")
def test_a_stop_drops_what_waits_and_answers_what_is_on_its_way(client: Client, film: Path) -> None:
    answers, source = Answers(is_open=False), LiveSource(str(film), LiveOptions(loop=True))
    with Watch(source, client, answers, WatchOptions(in_flight=2, waiting=2)) as watch:
        while source.frames_seen < 40 or len(answers.clips) < 2:
            time.sleep(0.01)
        watch.stop()
        answers.gate.set()
        seen = all_results(watch)
    counts = check_books(seen)
    assert [result.outcome for result in seen[:2]] == [Outcome.ANSWERED] * 2
    assert counts.answered == 2
    assert counts.dropped >= 2
    assert len(answers.clips) == 2


@pytest.mark.parametrize(("options", "windows"), [({"windows": 3}, 3), ({"seconds": 1.0}, 3), ({"windows": 99}, 10)])
def test_a_watch_ends_where_it_is_told_to(client: Client, film: Path, options: dict[str, Any], windows: int) -> None:
    with Watch(LiveSource(str(film)), client, Answers(), WatchOptions(**options)) as watch:
        assert check_books(all_results(watch)) == Counts(answered=windows)


def test_a_camera_that_is_gone_is_an_error_after_all_results(
    client: Client, film: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(monkeypatch, film, None, film)
    with Watch(streams.source(reconnects=3), client, Answers(), WatchOptions(waiting=40)) as watch:
        results = watch.results(patience=0.02)
        with pytest.raises(VideoError, match="given up after 3 attempts"):
            list(results)
    assert watch.counts == Counts(answered=20, reconnects=1)


def test_the_parts_of_the_latency_make_up_the_whole(client: Client, film: Path) -> None:
    with Watch(LiveSource(str(film)), client, Answers(), WatchOptions(windows=2)) as watch:
        latencies = [result.latency for result in all_results(watch)]
    for latency in latencies:
        assert latency is not None
        told = latency.to_json()
        assert list(told) == ["assembly", "waiting", "encryption", "request", "total"]
        assert min(told.values()) >= 0
        assert sum(list(told.values())[:4]) == pytest.approx(told["total"], abs=0.01)


@pytest.mark.parametrize("options", [{"hop": 0}, {"in_flight": 0}, {"waiting": 0}, {"windows": 0}, {"seconds": 0}])
def test_watch_options_have_ranges(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        WatchOptions(**options)


# The command


BLOCKED = """
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it


class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "openvino"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked())
from lcve_deploy.cli import lcve
lcve()
"""


class Command:
    """``lcve watch`` in a process of its own, where no engine and no torch can be imported."""

    def __init__(self, server: str, exported: Path, key_file: Path) -> None:
        self._options = ["--server", server, "--key", str(key_file), "--client", str(exported / "client")]

    @contextmanager
    def start(self, source: object, *options: object, **more: Any) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-c", BLOCKED, "watch", str(source), *self._options, *map(str, options)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        with subprocess.Popen(command, text=True, **pipes) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(self, source: object, *options: object) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
        """Lines, summary and standard error of a run that must end well."""
        with self.start(source, *options) as process:
            output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        *lines, last = [json.loads(line) for line in output.splitlines()]
        return lines, last["summary"], errors


@pytest.fixture
def server(client: Client) -> Iterator[GrpcServer]:
    with GrpcServer(Model(client.settings.binding)) as server:
        yield server


@pytest.fixture
def watching(server: GrpcServer, exported: Path, key_file: Path) -> Command:
    return Command(server.address, exported, key_file)


def test_the_command_prints_a_line_for_every_window(client: Client, film: Path, watching: Command) -> None:
    lines, summary, errors = watching.run(film, "--hop", 8, "--top", 2)
    assert errors == ""
    windows = windows_of(film, client.settings.preprocess)
    for line, window in zip(lines, windows, strict=True):
        logits = client.plain_order(fake.logits_of(client.encrypt(window.clip).values))
        expected = client.predict(logits, top=2)
        assert [(p["index"], p["name"]) for p in line["predictions"]] == [(p.index, p.name) for p in expected]
        assert [p["probability"] for p in line["predictions"]] == pytest.approx([p.probability for p in expected])
        assert line["window"] == window.number
        assert line["outcome"] == "answered"
        assert line["first"]["frame"] == window.first.frame
        assert line["last"]["position"] == pytest.approx(window.last.position, abs=1e-5)
        assert line["last"]["time"].endswith("Z")
        assert line["last"]["time"] >= line["first"]["time"]
        assert set(line["latency_ms"]) == {"assembly", "waiting", "encryption", "request", "total"}
    expected_counts = {"windows": 10, "answered": 10, "dropped": 0, "failed": 0, "reconnects": 0, "damaged": 0}
    assert summary == lines[-1]["counts"] == expected_counts


def test_the_command_tells_of_windows_that_fail(film: Path, server: GrpcServer, watching: Command) -> None:
    server.model.next.extend([fake.INVALID])
    lines, summary, _ = watching.run(film, "--windows", 3, "--in-flight", 1)
    assert [line["outcome"] for line in lines] == ["failed", "answered", "answered"]
    assert "wrong input" in lines[0]["error"]
    assert "predictions" not in lines[0]
    assert (summary["failed"], summary["answered"]) == (1, 2)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_well(film: Path, watching: Command, number: int) -> None:
    with watching.start(film, "--loop", "--realtime") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    *lines, last = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert [line["window"] for line in lines] == list(range(len(lines)))
    assert last["summary"]["windows"] == len(lines)
    assert errors == ""


def test_a_second_signal_ends_the_command_at_once(film: Path, server: GrpcServer, watching: Command) -> None:
    server.model.next.extend([fake.Hang()] * 2)
    with watching.start(film, "--loop", "--realtime", "--deadline", 50) as process:
        while len(server.model.infers) < 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None  # it waits for what is on its way
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_reader_who_leaves_ends_the_command_well(film: Path, watching: Command) -> None:
    with watching.start(film, "--loop", "--realtime") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.wait(timeout=60) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_terminal_gets_lines_to_read(film: Path, watching: Command, as_json: bool) -> None:
    terminal, end = pty.openpty()
    options = ["--json"] if as_json else []
    with watching.start(film, "--windows", 2, *options, stdout=end, stderr=end) as process:
        os.close(end)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        assert process.wait(timeout=60) == 0
    os.close(terminal)
    counted = b"2 windows: 2 answered, 0 dropped, 0 failed; 0 reconnects, 0 damaged frames"
    assert (counted in shown.splitlines()[-1]) == (not as_json)
    assert (b'{"window": 1' in shown) == as_json
    assert (b" s  window 1  " in shown) == (not as_json)


def test_wrong_sources_are_one_clear_error(
    tmp_path: Path, server: GrpcServer, exported: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--server", server.address, "--key", key_file, "--client", exported / "client")
    assert "there is no video" in run_error("watch", tmp_path / "none.mp4", *options)
    assert "cannot be opened" in run_error("watch", "/dev/video9999", *options)
    for arguments in (("watch", ADDRESS, *options), ("watch", *options)):
        monkeypatch.setenv("LCVE_SOURCE", ADDRESS)
        error = run_error(*arguments)
        assert "rtsp://127.0.0.1:1 cannot be opened" in error
        assert SECRET not in error


def test_a_server_that_is_away_is_one_clear_error(film: Path, exported: Path, key_file: Path) -> None:
    options = ("--server", "grpc://127.0.0.1:1/digits", "--key", key_file, "--client", exported / "client")
    assert run_error("watch", film, *options, "--retries", 0, "--deadline", 5)


def test_the_command_watches_a_camera_that_comes_and_goes(watching: Command) -> None:
    with FakeCamera(account=f"eve:{SECRET}", frames=20) as camera:
        lines, summary, errors = watching.run(camera.address(f"eve:{SECRET}"), "--windows", 5)
    assert [line["window"] for line in lines] == list(range(5))
    assert summary["reconnects"] == lines[-1]["counts"]["reconnects"] == 2
    assert errors.count("warning: ") == 2
    assert SECRET not in json.dumps(lines) + errors


def test_a_camera_that_is_gone_ends_the_command_with_its_counts(watching: Command) -> None:
    with FakeCamera(frames=20) as camera, watching.start(camera.address(), "--reconnects", 0) as process:
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [json.loads(line).get("window") for line in output.splitlines()] == [0, 1, None]
    assert json.loads(output.splitlines()[-1])["summary"]["answered"] == 2
    assert errors.startswith(f"error: rtsp://127.0.0.1:{camera.port}: the stream ended; given up after 0 attempts")


def test_a_signal_ends_the_command_while_its_camera_is_silent(watching: Command) -> None:
    with FakeCamera(silent_after=100) as camera, watching.start(camera.address(), "--silence", 300) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert camera.silent.wait(60)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=30)
        assert not camera.ended.is_set()
    assert (process.returncode, errors) == (0, "")
    *lines, last = [json.loads(line) for line in [first, *output.splitlines()]]
    assert [line["window"] for line in lines] == list(range(len(lines)))
    assert last["summary"]["windows"] == len(lines)


def test_a_signal_ends_the_command_while_it_opens_a_dead_camera(watching: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/x"
        with watching.start(address, "--silence", 300) as process:
            connection, _ = mute.accept()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            connection.close()
    assert process.returncode == 128 + signal.SIGTERM


# A real RTSP server, where there is one

RTSP_PYTHON = "/usr/bin/python3"


class RtspServer:
    """GStreamer's server in a process; as a context manager it ends."""

    def __init__(self, *account: str, port: int = 0) -> None:
        command = [RTSP_PYTHON, str(Path(__file__).parent / "rtsp_server.py"), str(port), *account]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline() or 0)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> RtspServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


@pytest.fixture(scope="module")
def needs_rtsp() -> None:
    packages = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-{base,good,ugly} python3-gi"
    if not Path(RTSP_PYTHON).exists():
        pytest.skip(f"there is no {RTSP_PYTHON}, which runs the RTSP server")
    with RtspServer() as server:
        if not server.port:
            pytest.skip(f"no RTSP server: Debian's packages {packages} are not installed")


@pytest.mark.usefixtures("needs_rtsp")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_camera_over_rtsp_is_watched(watching: Command, transport: str) -> None:
    with RtspServer("eve", SECRET) as camera:
        address = f"rtsp://eve:{SECRET}@127.0.0.1:{camera.port}/stream"
        lines, summary, errors = watching.run(address, "--windows", 6, "--rtsp-transport", transport)
    assert summary["windows"] == 6
    assert summary["answered"] > 0
    assert summary["reconnects"] == 0
    assert SECRET not in json.dumps(lines) + errors
    steps = np.diff([line["first"]["position"] for line in lines])
    np.testing.assert_allclose(steps, 8 / 25, atol=0.1)


@pytest.mark.usefixtures("needs_rtsp")
def test_a_wrong_password_is_an_error_that_does_not_show_it(server: GrpcServer, exported: Path, key_file: Path) -> None:
    options = ("--server", server.address, "--key", key_file, "--client", exported / "client")
    with RtspServer("eve", "another") as camera:
        error = run_error("watch", f"rtsp://eve:{SECRET}@127.0.0.1:{camera.port}/stream", *options)
    assert "401 Unauthorized" in error
    assert SECRET not in error


@pytest.mark.usefixtures("needs_rtsp")
def test_a_camera_that_goes_and_comes_back_is_watched_on(watching: Command) -> None:
    camera = RtspServer("eve", SECRET)
    address = f"rtsp://eve:{SECRET}@127.0.0.1:{camera.port}/stream"
    with watching.start(address, "--windows", 12, "--silence", 5) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        camera.stop()
        time.sleep(1)
        with RtspServer("eve", SECRET, port=camera.port):
            output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    *more, last = [json.loads(line) for line in output.splitlines()]
    lines += more
    assert [line["window"] for line in lines] == list(range(12))
    assert last["summary"]["reconnects"] == 1
    positions = [line["first"]["position"] for line in lines]
    assert positions == sorted(positions)
    assert f"warning: rtsp://127.0.0.1:{camera.port}: " in errors
    assert "opening it again in 0.5 s" in errors
    assert SECRET not in output + errors


# Memory


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow(tmp_path: Path, exported: Path, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has settled: how full the queues get at first depends on how busy the machine is."""
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")  # or what threads free stays with them
    film = make_film(tmp_path / "film.mp4")
    with served(exported / "server") as address:
        figures = watch(address, film, key_file, exported / "client", media_seconds=240)
    assert figures["counts"]["answered"] == figures["counts"]["windows"] == 240 * 24 // 16
    *_, third, last = figures["quarters_mib"]
    assert last / third - 1 < MAX_SPREAD / 100
