"""Time of a frame of a stream: its number, its position in the stream, and when it was read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["MediaClock", "Moment", "pause"]

_MAX_SLEEP: Final = 0.1
_FRAME_SECONDS: Final = 1 / 25
"""Duration of a frame if the stream does not declare a frame rate."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Time of a frame by three clocks.

    Args:
        frame: number since the start, from 0; damaged frames count.
        position: seconds since the first frame, by the timestamps of the stream; never decreases.
        time: when it was read, UTC, by the system clock, which may jump.
        read: when it was read, seconds of ``time.monotonic``.
    """

    frame: int
    position: float
    time: datetime
    read: float

    @classmethod
    def now(cls, *, frame: int, position: float) -> Moment:
        """Return the time of a frame that has just been read."""
        return cls(frame=frame, position=position, time=datetime.now(UTC), read=time.monotonic())


class MediaClock:
    """Computes positions that continue when a stream restarts, whatever its timestamps are then."""

    def __init__(self) -> None:
        self._last = self._expected = 0.0
        self._duration = _FRAME_SECONDS
        self._offset: float | None = None

    def restart(self, rate: Any, *, gap: float = 0.0) -> None:
        """Start a new stream.

        Args:
            rate: frames per second; None if the stream does not declare it.
            gap: seconds since the last frame of the previous stream.
        """
        self._duration = 1 / float(rate) if rate else _FRAME_SECONDS
        self._expected, self._offset = self._expected + gap, None

    def position(self, seconds: float | None) -> float:
        """Return the position of the next frame, in seconds.

        Args:
            seconds: timestamp of the frame in its stream; None if it has none.
        """
        if seconds is None:
            position = self._expected
        else:
            self._offset = self._expected - seconds if self._offset is None else self._offset
            position = max(seconds + self._offset, self._last)
        self._last, self._expected = position, position + self._duration
        return position


def pause(seconds: float, stop: Callable[[], bool]) -> None:
    """Sleep for this many seconds, or until ``stop`` returns True."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not stop():
        time.sleep(min(left, _MAX_SLEEP))
