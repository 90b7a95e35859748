"""One HTTP connection: a protocol in front of aiohttp's, which limits the time that each head of a request may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Connection", "ConnectionTimes"]

IDLE_SECONDS: Final = 75.0


@dataclass(frozen=True, kw_only=True)
class ConnectionTimes:
    """Times after which a connection without a request is closed.

    Args:
        head: seconds until the head of a request must have arrived completely, from the start of the connection or
            from the first byte after a response.
        idle: seconds after a response until the next request must have begun.
    """

    head: float
    idle: float = IDLE_SECONDS


class Connection(asyncio.Protocol):
    """Pass everything to aiohttp's protocol, and close the connection if the head of a request takes too long.

    Args:
        inner: aiohttp's protocol.
        times: limits on time.
        opened: called when the connection is made.
        closed: called when it is lost.
        expired: called when it is closed because a head took too long.
    """

    def __init__(
        self,
        inner: Any,
        times: ConnectionTimes,
        *,
        opened: Callable[[Connection], None],
        closed: Callable[[Connection], None],
        expired: Callable[[], None],
    ) -> None:
        self._inner, self._times = inner, times
        self._opened, self._closed, self._expired = opened, closed, expired
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self.busy, self._idle = False, False
        """Whether a request is being answered, and whether nothing has arrived since the last response."""

    def begin_request(self) -> None:
        """Note that a head has arrived completely. The request has a time limit of its own."""
        self.busy, self._idle = True, False
        self._set_timer(None)

    def end_request(self) -> None:
        """Note that a request is answered."""
        self.busy, self._idle = False, True
        self._set_timer(self._times.idle)

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the time of the first head."""
        self._transport = transport
        self._opened(self)
        self._set_timer(self._times.head)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Start the time of the next head at its first byte."""
        if self._idle:
            self._idle = False
            self._set_timer(self._times.head)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that the client sends no more."""
        result: bool | None = self._inner.eof_received()
        return result

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        self._inner.resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Stop the timer."""
        self._set_timer(None)
        self._transport = None
        self._closed(self)
        self._inner.connection_lost(exc)

    def _set_timer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        timer = self._idle_out if self._idle else self._head_out
        self._timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, timer)

    def _idle_out(self) -> None:
        self.abort()

    def _head_out(self) -> None:
        self._expired()
        self.abort()
