"""Processes that are forked from one that has its libraries loaded, so that a test need not wait for imports.

A forked process is one of its own: the same code runs with the same arguments, and it ends with an exit status or by a
signal, as if Python had been started. What depends on how Python starts needs a true start: variables that libraries
read when they are loaded, limits set before, code that must run before any import.

``python -m tests.warm LIBRARY...`` is the server: an order as JSON on each message of its socket, with the descriptors
of the process.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

MAX_ORDER = 2**20
"""Bytes of an order."""


class WarmProcess:
    """A process, as ``subprocess.Popen`` has it."""

    def __init__(self, pid: int, status: int, stdout: IO[str]) -> None:
        self.pid, self.stdout = pid, stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, negative where a signal ended it."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(os.read(self._status, 16))
            os.close(self._status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> WarmProcess:
        return self

    def __exit__(self, *about: object) -> None:
        self.stdout.close()
        self.wait()


class Warm:
    """A server from the outside; it is started with the first process, and ends with this one."""

    def __init__(self, *libraries: str) -> None:
        self._libraries = libraries
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def start(self, code: str, arguments: Sequence[str], *, stderr: int, environment: Mapping[str, str]) -> WarmProcess:
        """As ``python -c CODE ARGUMENTS`` in this folder; standard output is a pipe."""
        order = {
            "code": code,
            "arguments": list(arguments),
            "environment": dict(environment),
            "folder": str(Path.cwd()),
        }
        (output, out), (status, report) = os.pipe(), os.pipe()
        with self._lock:
            ours = self._socket = self._socket or self._started()
            socket.send_fds(ours, [json.dumps(order).encode()], [out, stderr, report])
            os.close(out)
            os.close(report)
            pid = int(ours.recv(64))
        return WarmProcess(pid, status, os.fdopen(output))

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", *self._libraries],
                stdin=theirs.fileno(),
                cwd=Path(__file__).parents[1],
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        atexit.register(_end, ours, process)
        return ours


def _end(ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
    ours.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:  # a test that failed has left a process
        process.kill()
        process.wait()


def _serve(libraries: list[str]) -> dict[str, Any]:
    """Fork a process for every order; returns the order, in such a process alone."""
    _load(libraries)
    server = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    while True:
        data, descriptors, _, _ = socket.recv_fds(server, MAX_ORDER, 3)
        if not data:
            _reap(0)
            raise SystemExit(0)
        if os.fork() == 0:
            _become(server, descriptors)
            return dict(json.loads(data))
        for descriptor in descriptors:
            os.close(descriptor)
        _reap(os.WNOHANG)


def _reap(options: int) -> None:
    """Take the processes that have reported."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _load(libraries: list[str]) -> None:
    """Import modules, and all that is in packages of this project."""
    for library in libraries:
        module = importlib.import_module(library)
        if library.startswith("lcve_deploy.") and hasattr(module, "__path__"):
            for inner in pkgutil.walk_packages(module.__path__, f"{library}."):
                importlib.import_module(inner.name)


def _become(server: socket.socket, descriptors: list[int]) -> None:
    """Fork the process that is asked for; returns in that process alone. This one waits, and reports how it ended."""
    pid = os.fork()
    if pid:
        server.send(str(pid).encode())
        server.close()
        _report(pid, descriptors)
    server.close()
    os.dup2(descriptors[0], 1)
    os.dup2(descriptors[1], 2)
    for descriptor in descriptors:
        os.close(descriptor)


def _report(pid: int, descriptors: list[int]) -> NoReturn:
    out, stderr, report = descriptors
    os.close(out)
    os.close(stderr)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(report, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    _order = _serve(sys.argv[1:])
    os.environ.clear()
    os.environ.update(_order["environment"])
    os.chdir(_order["folder"])
    random.seed()
    sys.argv = ["-c", *_order["arguments"]]
    exec(compile(_order["code"], "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 (as python -c does)
