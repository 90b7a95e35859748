"""Where a frame of a stream lies: its number, its time of day, and its place in the stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["MediaClock", "Moment", "pause"]

_SLICE: Final = 0.1
_FRAME: Final = 1 / 25
"""Seconds of a frame where the stream does not say."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When a frame was, by three clocks.

    Args:
        frame: its number since the start, from 0; damaged ones count.
        position: seconds of the stream since its first frame, by the stream's own times; never goes back.
        time: when it was read, UTC, by the clock on the wall, which may jump.
        read: when it was read, seconds of ``time.monotonic``.
    """

    frame: int
    position: float
    time: datetime
    read: float

    @classmethod
    def now(cls, *, frame: int, position: float) -> Moment:
        """A frame that has just been read."""
        return cls(frame=frame, position=position, time=datetime.now(UTC), read=time.monotonic())


class MediaClock:
    """Positions that continue when a stream restarts, with any times that it has then."""

    def __init__(self) -> None:
        self._last = self._expected = 0.0
        self._duration = _FRAME
        self._offset: float | None = None

    def restart(self, rate: Any, *, gap: float = 0.0) -> None:
        """A stream starts.

        Args:
            rate: its frames a second; None where it does not say.
            gap: seconds that have gone by since the last frame of the one before.
        """
        self._duration = 1 / float(rate) if rate else _FRAME
        self._expected, self._offset = self._expected + gap, None

    def position(self, seconds: float | None) -> float:
        """Of the next frame.

        Args:
            seconds: its time in its stream; None where it has none.
        """
        if seconds is None:
            position = self._expected
        else:
            self._offset = self._expected - seconds if self._offset is None else self._offset
            position = max(seconds + self._offset, self._last)
        self._last, self._expected = position, position + self._duration
        return position


def pause(seconds: float, stop: Callable[[], bool]) -> None:
    """Wait, but no longer than until ``stop`` says so."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, _SLICE))
