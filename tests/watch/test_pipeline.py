"""The pipeline, with a stand-in for the server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client
from lcve_deploy.cli.watching import _window_line
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import UnavailableError, VideoError
from lcve_deploy.verbs.watch import Counts, Outcome, Watch, WatchOptions, WindowResult
from lcve_deploy.video import live
from lcve_deploy.video.live import LiveOptions, LiveSource
from tests.support import fake_server as fake
from tests.watch.helpers import (
    Streams,
    windows_of,
)


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
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real time without waiting."""
    monkeypatch.setattr(live, "pause", lambda seconds, stop: None)


def all_results(watch: Watch, *, each: Callable[[WindowResult | None], None] | None = None) -> list[WindowResult]:
    seen = []
    for result in watch.results(timeout=0.02):
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
        while watch._workers[0].is_running():  # the encryption of the last window
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
                raise UnavailableError("the server is away", hint="start it")
            return {4: logits * np.nan, 6: logits[:, :3], 8: np.concatenate([logits, logits])}.get(number, logits)

    with Watch(LiveSource(str(film)), client, Failing(), WatchOptions(in_flight=1)) as watch:
        seen = all_results(watch)
    assert check_books(seen) == Counts(answered=6, failed=4)
    errors = {result.number: result.error for result in seen if result.error}
    assert errors[2] == "the server is away"
    assert (seen[2].hint, seen[2].to_json()["hint"]) == ("start it", "start it")
    assert "the server is away; start it" in _window_line(seen[2])
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
        results = watch.results(timeout=0.02)
        with pytest.raises(VideoError, match="gave up after 3 attempts"):
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
