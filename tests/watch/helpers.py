"""What the tests in this folder share."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.errors import VideoError
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.verbs.watch import Outcome, WindowResult
from lcve_deploy.video import live
from lcve_deploy.video.decode import OpenInput
from lcve_deploy.video.live import LiveOptions, LiveSource
from lcve_deploy.video.moments import Moment
from lcve_deploy.video.sources import RtspTransport, parse_source
from lcve_deploy.video.windows import SlidingWindows, Window
from tests.support.warm import CLIENTS

PREPROCESS = Preprocess(frames=8, stride=2, short_side=32, crop=(32, 32))
SECRET = "ge-heim"
ADDRESS = f"rtsp://eve:{SECRET}@127.0.0.1:1/{SECRET}?token={SECRET}"


def read_line(process: subprocess.Popen[str]) -> str:
    """A line of standard output, without what follows: ``communicate`` does not see what was read ahead."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode()


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


class Streams:
    """What a camera gives each time it is opened: a file, or nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *streams: Path | None) -> None:
        self.left, self.pauses, self.told = list(streams), list[float](), list[str]()
        self._opened = OpenInput
        monkeypatch.setattr(live, "OpenInput", self._open)
        monkeypatch.setattr(live, "pause", lambda seconds, stop: self.pauses.append(seconds))

    def _open(self, source: Any) -> Any:
        stream = self.left.pop(0) if self.left else None
        if stream is None:
            raise VideoError(f"{source.name} cannot be opened (it is away)")
        return self._opened(parse_source(str(stream), transport=RtspTransport.TCP, timeout=1)[1])

    def source(self, **options: Any) -> LiveSource:
        return LiveSource(ADDRESS, LiveOptions(**options), on_reconnect=self.told.append)


def result(number: int) -> WindowResult:
    moment = Moment.now(frame=number, position=0)
    return WindowResult(number=number, first=moment, last=moment, outcome=Outcome.ANSWERED)


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
        command = [*CLIENTS.command(BLOCKED), "watch", str(source), *self._options, *map(str, options)]
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
