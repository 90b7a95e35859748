"""Signals that reach ``lcve serve`` while it starts: none kills it, and none is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import NAME, START_SECONDS, Server, ask_http, make_example, serving

ON_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {number:d})
sys.meta_path.insert(0, Finder())
"""
"""The process sends itself a signal when it imports a module."""

ON_LOAD = """
import os
import lcve_deploy.serving.models.registry as registry
load, sent = registry.load_model, []
def load_and_signal(*given):
    if not sent:
        sent.append([os.kill(os.getpid(), {number:d}) for _ in range({times})])
    return load(*given)
registry.load_model = load_and_signal
"""
"""The process sends itself a signal when it loads its first model."""

EARLY = ("lcve_deploy.cli.serve", "lcve_deploy.serving.settings", "asyncio", "prometheus_client")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text("camera-7 0123456789abcdef\n")
    path.chmod(0o600)
    return path


def run(before: str, folder: Path) -> tuple[int, str, str]:
    """``lcve serve`` that ends by itself: exit status, output and log."""
    code = f"{before}\nfrom lcve_deploy.cli import lcve; lcve()"
    ports = ("--http-port", "0", "--grpc-port", "0", "--metrics-port", "0")
    command = [sys.executable, "-c", code, "serve", f"{NAME}={folder}", *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_SECONDS, env={**os.environ})
    return done.returncode, done.stdout, done.stderr


def loads(server: Server) -> int:
    return sum(line["event"] == "model loaded" for line in server.log())


@pytest.mark.parametrize("module", EARLY)
def test_a_hang_up_during_imports_reloads_once_the_server_has_started(
    exported: Path, tokens: Path, module: str
) -> None:
    before = ON_IMPORT.format(module=module, number=signal.SIGHUP)
    with serving(exported / "server", "--tokens", tokens, before=before, fresh=True) as server:
        server.wait_for("reload complete")
        assert server.end() == 0
        assert loads(server) == 2


@pytest.mark.parametrize("module", EARLY)
def test_a_request_to_stop_during_imports_stops_before_anything_is_loaded(exported: Path, module: str) -> None:
    status, output, log = run(ON_IMPORT.format(module=module, number=signal.SIGTERM), exported / "server")
    assert (status, output) == (0, "")
    assert "stopped while starting" in log
    assert "model loaded" not in log


def test_hang_ups_while_models_load_are_one_reload(exported: Path, tokens: Path) -> None:
    before = ON_LOAD.format(number=signal.SIGHUP, times=20)
    with serving(exported / "server", "--tokens", tokens, before=before) as server:
        server.wait_for("reload complete")
        assert server.end() == 0
        assert loads(server) == 2
        assert sum(line["event"] == "files reloaded" for line in server.log()) == 1


def test_a_request_to_stop_while_models_load_stops_before_a_port_is_open(exported: Path) -> None:
    status, output, log = run(ON_LOAD.format(number=signal.SIGTERM, times=1), exported / "server")
    assert (status, output) == (0, "")
    assert "stopped while starting" in log
    assert "Traceback" not in log


def test_a_hundred_hang_ups_lose_no_request(exported: Path) -> None:
    example = make_example(exported / "server")
    with serving(exported / "server") as server:
        for _ in range(100):
            server.signal(signal.SIGHUP)
            assert ask_http(server, example.clip)[0] == 200
        server.wait_for("reload complete")
        assert server.end() == 0
        assert 2 <= loads(server) <= 101
