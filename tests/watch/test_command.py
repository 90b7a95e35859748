"""The command."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from lcve_deploy import Client
from tests.conftest import run_error
from tests.support import fake_server as fake
from tests.support.fake_camera import FakeCamera
from tests.support.fake_server import GrpcServer
from tests.test_video import make_video
from tests.watch.helpers import (
    ADDRESS,
    SECRET,
    Command,
    noisy_frames,
    read_line,
    windows_of,
)


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


def test_a_video_on_standard_input_is_watched_while_it_arrives(tmp_path: Path, watching: Command) -> None:
    video = make_video(tmp_path / "film.mkv", noisy_frames(80)).read_bytes()
    with watching.start("-", stdin=subprocess.PIPE) as process:
        assert isinstance(process.stdin, io.TextIOWrapper)
        process.stdin.buffer.write(video[: len(video) // 2])
        process.stdin.flush()
        first = json.loads(read_line(process))  # before its end has come
        process.stdin.buffer.write(video[len(video) // 2 :])
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors, first["outcome"]) == (0, "", "answered")
    assert json.loads(output.splitlines()[-1])["summary"]["answered"] == 10


def test_standard_input_is_not_looped_and_must_be_a_video(watching: Command) -> None:
    for options, text, expected in (
        (("--loop",), "", "standard input cannot be read again"),
        ((), "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", "standard input cannot be read as a video"),
    ):
        with watching.start("-", *options, stdin=subprocess.PIPE) as process:
            output, errors = process.communicate(text, timeout=60)
        assert (process.returncode, output) == (1, "")
        assert expected in errors


def test_the_command_tells_of_windows_that_fail(film: Path, server: GrpcServer, watching: Command) -> None:
    server.model.next.extend([fake.INVALID])
    lines, summary, _ = watching.run(film, "--windows", 3, "--in-flight", 1)
    assert [line["outcome"] for line in lines] == ["failed", "answered", "answered"]
    assert "wrong input" in lines[0]["error"]
    assert "hint" not in lines[0]
    assert "predictions" not in lines[0]
    assert (summary["failed"], summary["answered"]) == (1, 2)


def test_a_source_of_which_no_window_is_answered_is_a_failure(
    film: Path, server: GrpcServer, watching: Command
) -> None:
    server.model.next.extend([fake.INVALID] * 2)
    with watching.start(film, "--windows", 2, "--in-flight", 1) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (1, "")
    summary = json.loads(output.splitlines()[-1])["summary"]
    assert (summary["failed"], summary["answered"]) == (2, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_well(film: Path, watching: Command, number: int) -> None:
    with watching.start(film, "--loop", "--realtime") as process:
        first = read_line(process)
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
    assert errors.startswith(f"error: rtsp://127.0.0.1:{camera.port}: the stream ended; gave up after 0 attempts")


def test_a_signal_ends_the_command_while_its_camera_is_silent(watching: Command) -> None:
    with FakeCamera(silent_after=100) as camera, watching.start(camera.address(), "--camera-timeout", 300) as process:
        first = read_line(process)
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
        with watching.start(address, "--camera-timeout", 300) as process:
            connection, _ = mute.accept()
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            connection.close()
    assert process.returncode == 128 + signal.SIGTERM
