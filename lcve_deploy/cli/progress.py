"""Progress on standard error: a line that moves on a terminal, else one line a stage."""

from __future__ import annotations

import sys
import threading
import time
from typing import Final

import click

from lcve_deploy.cli.verbosity import is_quiet, is_verbose

__all__ = ["StageProgress", "duration", "remaining"]

_CLEAR: Final = "\r\x1b[K"
_PERIOD: Final = 1.0
_MIN_SHOWN: Final = 2.0
"""Seconds of a stage before its time is shown; short stages do not flicker."""


class StageProgress:
    """Shows the stages of long work; see ``lcve_deploy.progress.Progress``.

    On a terminal the line of a stage counts steps and seconds, and estimates what is left. Elsewhere there is one line
    for each finished stage. With ``--quiet`` there is nothing.

    Args:
        quiet: show nothing of work that is usually short, unless ``--verbose`` asks for it.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = is_quiet() or (quiet and not is_verbose())
        self._live = sys.stderr.isatty() and not self._quiet
        self._stage, self._done, self._total, self._started = "", 0, 0, time.monotonic()
        self._lock = threading.Lock()
        self._closed: threading.Event | None = None
        context = click.get_current_context(silent=True)
        if self._live and context is not None:
            context.call_on_close(self.close)  # an error has a line of its own

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show a step."""
        if self._quiet:
            return
        with self._lock:
            if done == 0:
                self._started = time.monotonic()
            self._stage, self._done, self._total = stage, done, total
            if done >= total > 0:
                self._end(f"{stage}: {time.monotonic() - self._started:.1f} s\n")
                self._started = time.monotonic()
                return
        if self._live:
            self._show()
            self._start_ticking()

    def close(self) -> None:
        """Stop the line and remove it."""
        with self._lock:
            self._end("")

    def _end(self, line: str) -> None:
        if self._closed is not None:
            self._closed.set()
            self._closed = None
        click.echo(f"{_CLEAR if self._live else ''}{line}", err=True, nl=False)

    def _start_ticking(self) -> None:
        """Redraw the line every second from a thread, until the stage ends."""
        if self._closed is None:
            self._closed = threading.Event()
            threading.Thread(target=self._tick, args=(self._closed,), daemon=True).start()

    def _tick(self, closed: threading.Event) -> None:
        while not closed.wait(_PERIOD):
            self._show(closed)

    def _show(self, closed: threading.Event | None = None) -> None:
        with self._lock:
            if closed is None or not closed.is_set():
                elapsed = time.monotonic() - self._started
                click.echo(f"{_CLEAR}{_line(self._stage, self._done, self._total, elapsed)}", err=True, nl=False)


def _line(stage: str, done: int, total: int, elapsed: float) -> str:
    """``stage ... 3/12, 8 s, about 24 s left``, without the parts that say nothing yet."""
    count = f"{done}/{total}" if total > 1 else ""
    spent = duration(elapsed) if elapsed >= _MIN_SHOWN else ""
    return f"{stage} ... {', '.join(filter(None, (count, spent, remaining(done, total, elapsed))))}".rstrip()


def remaining(done: int, total: int, elapsed: float) -> str:
    """Estimate what is left from the mean time of a step; empty if it is too early."""
    if not 0 < done < total or elapsed < _MIN_SHOWN:
        return ""
    return f"about {duration(elapsed / done * (total - done))} left"


def duration(seconds: float) -> str:
    """Write a time in the two largest units."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
