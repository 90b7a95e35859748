"""Refuse sealed requests that were seen before, in bounded memory.

Every request has its own id and the time at which it was sealed. Ids are remembered as long as that time is within the
window; older requests are refused. If the memory is full, the oldest ids are forgotten, and requests that are not newer
are refused from then on. So one server process never accepts a request twice.

A process cannot know the requests before its start, so it refuses those that were sealed earlier.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from typing import Final

from lcve_deploy.errors import SealingError

__all__ = ["MAX_REMEMBERED", "WINDOW", "Replays"]

WINDOW: Final = 300.0
"""Maximum seconds between sealing and arrival, by the clocks of client and server."""
MAX_REMEMBERED: Final = 2**17
"""Maximum number of ids that a server process remembers."""


class Replays:
    """Accepted requests of one server process. Use it on one event loop or thread only.

    Args:
        window: seconds before or after now at which a request may have been sealed.
        capacity: maximum number of ids to remember.
        clock: returns seconds since 1970-01-01 UTC.
    """

    def __init__(
        self, *, window: float = WINDOW, capacity: int = MAX_REMEMBERED, clock: Callable[[], float] = time.time
    ) -> None:
        self._window, self._capacity, self._clock = round(window * 1000), capacity, clock
        self._ids, self._by_age = set[str](), list[tuple[int, str]]()
        self._started = self._oldest = self._now()

    def require_new(self, request_id: str, sealed_at: int) -> None:
        """Check that a request is recent and new, without remembering it.

        Args:
            request_id: id in its header.
            sealed_at: time in its header, milliseconds.

        Raises:
            SealingError: the request is too old, too far ahead, or was accepted before.
        """
        ahead = sealed_at - self._now()
        if abs(ahead) > self._window:
            raise SealingError(
                f"the request was sealed {abs(ahead) / 1000:.0f} s {'after' if ahead > 0 else 'before'} this server's "
                f"time, and {self._window / 1000:g} s are allowed",
                hint="set the clocks of client and server; send a request soon after it is sealed",
            )
        if sealed_at < self._oldest:
            since = "it started" if self._oldest == self._started else "the oldest request that it remembers"
            raise SealingError(
                f"the request was sealed before {since}, so the server cannot know whether it has accepted it already",
                hint="seal it again; if this lasts, set the client's clock",
            )
        if request_id in self._ids:
            raise SealingError("this request was accepted before, and none is accepted twice", hint="seal a new one")

    def remember(self, request_id: str, sealed_at: int) -> None:
        """Check a request that was opened, and accept it.

        Raises:
            SealingError: as for ``require_new``.
        """
        self.require_new(request_id, sealed_at)
        horizon = self._now() - self._window
        while self._by_age and (self._by_age[0][0] < horizon or len(self._by_age) >= self._capacity):
            age, forgotten = heapq.heappop(self._by_age)
            self._ids.discard(forgotten)
            if age >= horizon:
                self._oldest = max(self._oldest, age + 1)
        self._ids.add(request_id)
        heapq.heappush(self._by_age, (sealed_at, request_id))

    def __len__(self) -> int:
        return len(self._ids)

    def _now(self) -> int:
        return int(self._clock() * 1000)  # rounded down, as the time in a header is
