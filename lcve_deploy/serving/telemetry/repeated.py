"""Log events that clients can cause at will: a line at once, then one line an interval with their number."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

__all__ = ["RepeatedEvents"]

_INTERVAL: Final = 10.0


class RepeatedEvents:
    """Count events by name and reason, and log a bounded number of lines. Use it on one event loop only.

    Args:
        logger: logger for the lines.
        interval: seconds between two lines on the same event.
    """

    def __init__(self, logger: logging.Logger, interval: float = _INTERVAL) -> None:
        self._logger, self._interval = logger, interval
        self._counts: dict[tuple[str, str], int] = {}

    def record(self, event: str, reason: str) -> None:
        """Count an event, and log it now or with the next line on such events.

        Args:
            event: name of the event.
            reason: one of a fixed number of reasons: each has lines of its own.
        """
        key = (event, reason)
        if key in self._counts:
            self._counts[key] += 1
            return
        self._write(key, 1)
        self._wait(key)

    def _wait(self, key: tuple[str, str]) -> None:
        self._counts[key] = 0
        asyncio.get_running_loop().call_later(self._interval, self._finish, key)

    def _finish(self, key: tuple[str, str]) -> None:
        if count := self._counts.pop(key):
            self._write(key, count)
            self._wait(key)

    def _write(self, key: tuple[str, str], count: int) -> None:
        event, reason = key
        self._logger.warning(event, extra={"reason": reason, "count": count})
