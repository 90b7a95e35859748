"""A real RTSP server, where there is one."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import run_error
from tests.support.fake_server import GrpcServer
from tests.watch.helpers import (
    SECRET,
    Command,
    read_line,
)

RTSP_PYTHON = "/usr/bin/python3"


class RtspServer:
    """GStreamer's server in a process; as a context manager it ends."""

    def __init__(self, *account: str, port: int = 0) -> None:
        command = [RTSP_PYTHON, str(Path(__file__).parents[1] / "support/rtsp_server.py"), str(port), *account]
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
    with watching.start(address, "--windows", 12, "--camera-timeout", 5) as process:
        lines = [json.loads(read_line(process)) for _ in range(3)]
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
    assert "reconnecting in 0.5 s" in errors
    assert SECRET not in output + errors
