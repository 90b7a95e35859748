"""One HTTP connection whose every answer has a deadline and a largest size."""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.errors import SessionError

__all__ = ["Connection", "Reply"]

_MAX_DIGITS: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """Status, body, and the headers that matter."""

    status: int
    body: bytes
    header_length: int | None
    encoding: str


class Connection:
    """A connection to ``host:port``, opened when it is first used.

    Args:
        endpoint: ``host:port``.
        context: of TLS; None for none.
    """

    def __init__(self, endpoint: str, context: ssl.SSLContext | None) -> None:
        host, _, port = endpoint.rpartition(":")
        host = host.strip("[]")
        self._raw: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, int(port))
            if context is None
            else http.client.HTTPSConnection(host, int(port), context=context)
        )
        self._raw.response_class = self._response  # type: ignore[assignment]
        self._end, self.used = 0.0, False

    def ask(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], *, seconds: float, largest: int
    ) -> Reply:
        """One request and its answer.

        Raises:
            TimeoutError: the answer did not end in time.
            SessionError: an answer of more than ``largest`` bytes.
            OSError, http.client.HTTPException: whatever else a connection can suffer.
        """
        self._end = time.monotonic() + seconds
        self._raw.timeout = seconds
        if self._raw.sock is not None:
            self._raw.sock.settimeout(seconds)
        # A server that refuses a large body may answer, and close, before it has all of it: that answer counts.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._raw.request(method, path, body=body, headers=dict(headers))
        with self._raw.getresponse() as response:
            received = _read(response, largest)
            self.used = True
            return Reply(
                status=response.status,
                body=received,
                header_length=_whole(response.getheader("Inference-Header-Content-Length", "")),
                encoding=response.getheader("Content-Encoding", "identity"),
            )

    def close(self) -> None:
        """End the connection."""
        self._raw.close()

    def _response(self, sock: socket.socket, *given: Any, **more: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *given, **more)
        response.fp.close()
        response.fp = io.BufferedReader(_Timed(sock, self._left))
        return response

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        return left


class _Timed(io.RawIOBase):
    """What a socket receives. A wait gets what is left of the time, not all of it again for every byte."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left, self._raw = sock, left, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As of ``io.RawIOBase``.

        Raises:
            TimeoutError: the time is over.
        """
        self._sock.settimeout(self._left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let the socket go."""
        self._raw.close()
        super().close()


def _read(response: http.client.HTTPResponse, largest: int) -> bytes:
    received = response.read(largest + 1)
    if len(received) > largest:
        raise SessionError(f"an answer of more than {largest} bytes")
    if response.length:  # with a size, http.client does not say that the body ended before it
        raise http.client.IncompleteRead(b"", response.length)
    return received


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None
