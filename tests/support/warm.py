"""Processes that are forked from one that has its libraries loaded, so that a test need not wait for imports.

A forked process is one of its own: the same code runs with the same arguments, and it ends with an exit status or by a
signal, as if Python had been started. What depends on how Python starts needs a true start: variables that libraries
read when they are loaded, limits set before, code that must run before any import.

``python -m tests.support.warm LIBRARY...`` is the server: an order as JSON on each message of its socket, with
the descriptors of the process. It takes orders on connections to a socket of the file system too: of
``tests/support/warm_client.py``, which gets the process id, then the exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
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
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from tests.support import warm_client

MAX_ORDER = 2**20
"""Bytes of an order."""
_STREAMS: Final = 3
_UNFLUSHED: Final = 120
"""Exit status of Python if it cannot write what is left of standard output."""
_LISTEN: Final = "listen"
"""The order to listen at a path too."""


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
        self._place: tempfile.TemporaryDirectory[str] | None = None
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
        with open(os.devnull) as nothing:
            pid = self._ask(order, nothing.fileno(), out, stderr, report)
        os.close(out)
        os.close(report)
        return WarmProcess(pid, status, os.fdopen(output))

    def command(self, code: str) -> list[str]:
        """As ``python -c CODE``: a command for ``subprocess`` or a shell, to which arguments may be added."""
        if self._place is None:
            self._place = tempfile.TemporaryDirectory(prefix="lcve-warm-")
            self._ask({_LISTEN: f"{self._place.name}/socket"})
        return [sys.executable, "-I", "-S", warm_client.__file__, f"{self._place.name}/socket", code]

    def _ask(self, order: Mapping[str, Any], *descriptors: int) -> int:
        with self._lock:
            ours = self._socket = self._socket or self._started()
            socket.send_fds(ours, [json.dumps(order).encode()], descriptors)
            return int(ours.recv(64))

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.warm", *self._libraries],
                stdin=theirs.fileno(),
                cwd=Path(__file__).parents[2],
                env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        atexit.register(_end, ours, process)
        return ours


CLIENTS: Final = Warm(
    *("numpy", "click", "cloup", "cryptography.hazmat.primitives.serialization", "av"),
    *("grpc", "google.protobuf", "tritonclient.grpc", "aiohttp"),
)
"""For commands of clients: without an engine, and without anything of this package."""
EXPORTS: Final = Warm("torch", "onnx", "onnx_ir", "onnxruntime", "lcve_deploy.exporters", "lcve_deploy.verbs.export")


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
    sockets = [server]
    while True:
        for ready in select.select(sockets, [], [])[0]:
            client = None if ready is server else ready.accept()[0]
            data, descriptors, _, _ = socket.recv_fds(client or server, MAX_ORDER, _STREAMS + 1)
            if not data and client is None:
                _reap(0)
                raise SystemExit(0)
            order = dict(json.loads(data or "{}"))
            if _LISTEN in order:
                sockets.append(_listening(order[_LISTEN]))
                server.send(b"0")
            elif order and os.fork() == 0:
                _become(client or server, descriptors, sockets)
                return order
            _close(*descriptors, *filter(None, [client]))
            _reap(os.WNOHANG)


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    return listener


def _close(*files: int | socket.socket) -> None:
    for file in files:
        os.close(file) if isinstance(file, int) else file.close()


def _reap(options: int) -> None:
    """Take the processes that have reported."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, options)[0]:
            pass


def _load(libraries: list[str]) -> None:
    """Import modules, and all that is in packages of this project.

    Garbage collection ignores what exists then: in a forked process, it would only copy that memory.
    """
    for library in libraries:
        module = importlib.import_module(library)
        if library.startswith("lcve_deploy.") and hasattr(module, "__path__"):
            for inner in pkgutil.walk_packages(module.__path__, f"{library}."):
                importlib.import_module(inner.name)
    gc.collect()
    gc.freeze()


def _become(client: socket.socket, descriptors: list[int], sockets: list[socket.socket]) -> None:
    """Fork the process that is asked for; returns in that process alone. This one waits, and reports how it ended.

    Args:
        client: where the order came from: gets the process id.
        descriptors: the streams of the process, and what gets its exit status; if nothing does, the client gets it.
        sockets: of the server.
    """
    streams, report = descriptors[:_STREAMS], descriptors[_STREAMS:]
    pid = os.fork()
    if pid:
        client.send(str(pid).encode())
        _close(*streams, *(other for other in sockets if report or other is not client))
        _report(pid, report[0]) if report else _report(pid, client.fileno(), stands_for_it=True)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    _close(*descriptors, client, *sockets)


def _report(pid: int, report: int, *, stands_for_it: bool = False) -> NoReturn:
    """Wait for a process, and report how it ended.

    Args:
        stands_for_it: whether the process is to end too if what it is reported to has ended.
    """
    if stands_for_it:
        ended = os.pidfd_open(pid)
        if ended not in select.select([ended, report], [], [])[0]:
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        os.write(report, str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(code: str) -> int | None:
    """Run code as ``python -c`` does; return the exit status, None where Ctrl-C has ended it."""
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 (as python -c does)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)  # noqa: T201
        return 1
    except BaseException as error:
        trace = error.__traceback__
        sys.excepthook(type(error), error, trace and trace.tb_next)
        return None if isinstance(error, KeyboardInterrupt) else 1
    return 0


def _end_process(status: int | None) -> NoReturn:
    """End as Python does, but without taking apart what is loaded, which takes longer than most commands."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        traceback.print_exc()
        status = _UNFLUSHED
    if status is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(status or 0)


if __name__ == "__main__":
    _order = _serve(sys.argv[1:])
    os.environ.clear()
    os.environ.update(_order["environment"])
    os.chdir(_order["folder"])
    random.seed()
    sys.argv = ["-c", *_order["arguments"]]
    _end_process(_run(_order["code"]))
