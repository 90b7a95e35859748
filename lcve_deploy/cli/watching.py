"""What ``lcve watch`` shows, and how it is told to stop."""

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
_SHOWN: Final = 3
_PERIOD: Final = 0.5


class StopRequest:
    """Takes the first SIGINT or SIGTERM of a ``with`` block as a request; a second one does what it did before."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as of a job in the background
                self._before[number] = signal.signal(number, self._request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        for each, handler in self._before.items():
            signal.signal(each, handler)


class Display:
    """Lines on standard output; warnings, and on a terminal a line that counts, on standard error.

    Args:
        as_json: JSON even on a terminal.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json or not sys.stdout.isatty()
        self._live, self._status_at = sys.stderr.isatty() and not is_quiet(), 0.0
        self._lock = Lock()
        self.is_closed = False
        """Whether nobody reads standard output any more."""

    def show(self, result: WindowResult) -> None:
        """A window."""
        self._print(to_json_text(result.to_json()) if self._json else _readable(result))

    def summary(self, counts: Counts) -> None:
        """The last line."""
        self._print(to_json_text({"summary": counts.to_json()}) if self._json else _counted(counts))

    def status(self, counts: Counts) -> None:
        """Count, on a terminal, now and then."""
        now = time.monotonic()
        if self._live and now - self._status_at >= _PERIOD:
            self._status_at = now
            with self._lock:
                click.echo(f"{_CLEAR}{_counted(counts)}", err=True, nl=False)

    def warn(self, message: str) -> None:
        """Something that is dealt with; any thread may call this."""
        if is_quiet():
            return
        with self._lock:
            click.echo(f"{self._lead()}warning: {printable(message)}", err=True)

    def _print(self, line: str) -> None:
        if self.is_closed:
            return
        with self._lock:
            if lead := self._lead():
                click.echo(lead, err=True, nl=False)
            try:
                click.echo(line)
            except BrokenPipeError:
                self.is_closed = True
                # What is left in the buffer must not fail again at the end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _lead(self) -> str:
        return _CLEAR if self._live else ""


def _readable(result: WindowResult) -> str:
    time_of_day = result.last.time.astimezone().strftime("%H:%M:%S")
    milliseconds = f"  ({1000 * result.latency.total:.0f} ms)" if result.latency else ""
    said = ", ".join(f"{p.text(1)} {printable(p.name)}" for p in result.predictions[:_SHOWN])
    told = said or result.outcome.value + (f": {printable(result.error)}" if result.error else "")
    return f"{time_of_day}  {result.last.position:9.2f} s  window {result.number}  {told}{milliseconds}"


def _counted(counts: Counts) -> str:
    return (
        f"{counts.windows} windows: {counts.answered} answered, {counts.dropped} dropped, {counts.failed} failed; "
        f"{counts.reconnects} reconnects, {counts.damaged} damaged frames"
    )
