"""Commands that are killed at a chosen step of their work on files.

A server process has every library loaded, and forks a child for each run. The child counts the events of Python
that change files, and kills itself at the n-th, before it happens. What compiled libraries write by themselves has
no event; a limit on the size of files kills the child within a write, whoever writes.

``python -m tests.support.killing`` is the server: a run as JSON on each line of its input, what became of it
on its output.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = (
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "shutil.",
    "tempfile.",
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended: its exit code (None where it was killed), its steps so far, and what it printed."""

    code: int | None
    steps: tuple[str, ...]
    printed: str


class Killer:
    """The server, from the outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(
        self, *arguments: object, step: int | None = None, size: int | None = None, delay: float | None = None
    ) -> Ended:
        """Run ``lcve``.

        Args:
            step: kill it at this one, counted from 1, before it happens.
            size: kill it as it writes beyond this many bytes of a file.
            delay: kill it after this many seconds.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        order = {"arguments": [str(a) for a in arguments], "step": step, "size": size, "delay": delay}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(code=answer["code"], steps=tuple(answer["steps"]), printed=answer["printed"])


@contextlib.contextmanager
def killer() -> Iterator[Killer]:
    """A server for as long as the block runs."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.killing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"},
    ) as process:
        yield Killer(process)
        process.communicate()


def serve() -> None:
    """Answer the runs on standard input."""
    if hasattr(os, "sched_setaffinity"):  # threads that wait for each other in a spin cost more than they save here
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        answers.write(json.dumps(_run(order)) + "\n")
        answers.flush()


def _run(order: dict[str, Any]) -> dict[str, Any]:
    (reading, report), (shown, output) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        _child(order, report, output)
    os.close(report)
    os.close(output)
    timer = threading.Timer(order["delay"] or 0, os.kill, (child, signal.SIGKILL))
    if order["delay"] is not None:
        timer.start()
    with os.fdopen(reading) as pipe, os.fdopen(shown, errors="replace") as screen:
        steps, printed = pipe.read().splitlines(), screen.read()
    timer.cancel()
    _, status = os.waitpid(child, 0)
    if steps and steps[-1].startswith("modules "):  # loaded here, they are there for every further child
        for name in json.loads(steps.pop().removeprefix("modules ")):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
        gc.freeze()  # otherwise garbage collection in every child would copy this memory
    return {"code": None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), "steps": steps, "printed": printed}


def _child(order: dict[str, Any], report: int, output: int) -> None:
    """Run a command in this process; never returns."""
    from lcve_deploy.cli import lcve

    for stream in (1, 2):
        os.dup2(output, stream)
    if order["size"] is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # which Python ignores
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["size"], resource.RLIM_INFINITY))
    _count(report, order["step"])
    code = 70  # where the command ends in another way than by SystemExit
    try:
        lcve(order["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(report, f"modules {json.dumps(sorted(sys.modules))}\n".encode())
        os._exit(code)


def _count(report: int, last: int | None) -> None:
    counted = 0

    def step(name: str) -> None:
        nonlocal counted
        counted += 1
        os.write(report, name.encode() + b"\n")
        if counted == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & WRITING and not str(path).startswith(("/dev/", "/proc/")):
                step(f"open {path}")
        elif event.startswith(CHANGES):
            step(f"{event} {arguments[0] if arguments else ''}")

    def counted_fsync(descriptor: Any) -> None:
        step("fsync")
        os.fstat(descriptor)  # a killed process loses nothing that it has written, synced or not

    mock.patch("os.fsync", counted_fsync).start()
    sys.addaudithook(hook)


if __name__ == "__main__":
    serve()
