"""Progress on standard error: a live line on a terminal, otherwise one line for each stage."""

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
"""Seconds after which the time of a stage is shown, so that short stages do not flicker."""


class StageProgress:
    """Show the stages of a long operation; see ``lcve_deploy.progress.Progress``.

    On a terminal, one line counts the steps and seconds of a stage, and estimates the time left. Elsewhere, each
    finished stage prints one line. With ``--quiet``, nothing is shown.

    Args:
        quiet: show nothing unless ``--verbose`` is given; for operations that are usually short.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = is_quiet() or (quiet and not is_verbose())
        self._live = sys.stderr.isatty() and not self._quiet
        self._stage, self._done, self._total, self._started = "", 0, 0, time.monotonic()
        self._lock = threading.Lock()
        self._closed: threading.Event | None = None
        context = click.get_current_context(silent=True)
        if self._live and context is not None:
            context.call_on_close(self.close)  # an error starts on a new line

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
    """Return ``stage ... 3/12, 8 s, about 24 s left``, without the parts that are not known yet."""
    count = f"{done}/{total}" if total > 1 else ""
    spent = duration(elapsed) if elapsed >= _MIN_SHOWN else ""
    return f"{stage} ... {', '.join(filter(None, (count, spent, remaining(done, total, elapsed))))}".rstrip()


def remaining(done: int, total: int, elapsed: float) -> str:
    """Estimate the time left from the mean time of a step; empty if it is too early to tell."""
    if not 0 < done < total or elapsed < _MIN_SHOWN:
        return ""
    return f"about {duration(elapsed / done * (total - done))} left"


def duration(seconds: float) -> str:
    """Format a time in its two largest units."""
    rounded = max(round(seconds), 0)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"
