"""The display and the stop request of ``lcve watch``."""

from __future__ import annotations

import os
import signal
import sys
import time
from threading import Lock
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import click

from lcve_deploy.cli.show import printable, to_json_text
from lcve_deploy.cli.verbosity import is_quiet

if TYPE_CHECKING:
    from lcve_deploy.verbs.watch import Counts, WindowResult

__all__ = ["Display", "StopRequest"]

_CLEAR: Final = "\r\x1b[K"
_MAX_CLASSES: Final = 3
_PERIOD: Final = 0.5


class StopRequest:
    """Treat the first SIGINT or SIGTERM in a ``with`` block as a request to stop; a second one acts as before it."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # ignored in background jobs
                self._previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for handled, handler in self._previous.items():
            signal.signal(handled, handler)


class Display:
    """Print results on standard output, and warnings on standard error; on a terminal, also a line with counts.

    Args:
        as_json: print JSON even on a terminal.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json or not sys.stdout.isatty()
        self._live, self._status_at = sys.stderr.isatty() and not is_quiet(), 0.0
        self._lock = Lock()
        self.is_closed = False
        """Whether the reader of standard output has closed it."""

    def show(self, result: WindowResult) -> None:
        """Print the result of a window."""
        self._print(to_json_text(result.to_json()) if self._json else _window_line(result))

    def summary(self, counts: Counts) -> None:
        """Print the final counts."""
        self._print(to_json_text({"summary": counts.to_json()}) if self._json else _counts_line(counts))

    def status(self, counts: Counts) -> None:
        """Update the counts on a terminal, at most twice a second."""
        now = time.monotonic()
        if self._live and now - self._status_at >= _PERIOD:
            self._status_at = now
            with self._lock:
                click.echo(f"{_CLEAR}{_counts_line(counts)}", err=True, nl=False)

    def warn(self, message: str) -> None:
        """Print a warning about a problem that is being handled. Thread-safe."""
        if is_quiet():
            return
        with self._lock:
            click.echo(f"{self._line_start()}warning: {printable(message)}", err=True)

    def _print(self, line: str) -> None:
        if self.is_closed:
            return
        with self._lock:
            if start := self._line_start():
                click.echo(start, err=True, nl=False)
            try:
                click.echo(line)
            except BrokenPipeError:
                self.is_closed = True
                # The rest of the buffer must not fail again at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _line_start(self) -> str:
        return _CLEAR if self._live else ""


def _window_line(result: WindowResult) -> str:
    time_of_day = result.last.time.astimezone().strftime("%H:%M:%S")
    milliseconds = f"  ({1000 * result.latency.total:.0f} ms)" if result.latency else ""
    predictions = ", ".join(f"{p.text(1)} {printable(p.name)}" for p in result.predictions[:_MAX_CLASSES])
    reason = "; ".join(filter(None, (result.error, result.hint)))
    description = predictions or result.outcome.value + (f": {printable(reason)}" if reason else "")
    return f"{time_of_day}  {result.last.position:9.2f} s  window {result.number}  {description}{milliseconds}"


def _counts_line(counts: Counts) -> str:
    return (
        f"{counts.windows} windows: {counts.answered} answered, {counts.dropped} dropped, {counts.failed} failed; "
        f"{counts.reconnects} reconnects, {counts.damaged} damaged frames"
    )
