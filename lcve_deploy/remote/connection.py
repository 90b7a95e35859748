"""An HTTP connection that bounds every response in time and size."""

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
    """Status, body and relevant headers of a response."""

    status: int
    body: bytes
    header_length: int | None
    encoding: str


class Connection:
    """A connection to ``host:port``, opened on first use.

    Args:
        endpoint: ``host:port``.
        context: TLS context; None for plain HTTP.
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
        """Send one request and return its response.

        Args:
            method: HTTP method.
            path: request path.
            body: request body, if any.
            headers: request headers.
            seconds: deadline for the whole exchange.
            largest: maximum bytes of the response body.

        Raises:
            TimeoutError: the response did not end in time.
            SessionError: the response has more than ``largest`` bytes.
            OSError, http.client.HTTPException: the connection failed.
        """
        self._end = time.monotonic() + seconds
        self._raw.timeout = seconds
        if self._raw.sock is not None:
            self._raw.sock.settimeout(seconds)
        # A server that refuses a large body may respond and close before it has received all of it. Read that response.
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
        """Close the connection."""
        self._raw.close()

    def _response(self, sock: socket.socket, *given: Any, **more: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *given, **more)
        response.fp.close()
        response.fp = io.BufferedReader(_Timed(sock, self._left))
        return response

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response did not end in time")
        return left


class _Timed(io.RawIOBase):
    """Raw reads from a socket under one overall deadline, instead of a timeout that restarts with every read."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock, self._left, self._raw = sock, left, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read into ``buffer``; see ``io.RawIOBase``.

        Raises:
            TimeoutError: the deadline has passed.
        """
        self._sock.settimeout(self._left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Close the file; the connection keeps its socket."""
        self._raw.close()
        super().close()


def _read(response: http.client.HTTPResponse, largest: int) -> bytes:
    received = response.read(largest + 1)
    if len(received) > largest:
        raise SessionError(f"the response has more than {largest} bytes")
    if response.length:  # given a size, http.client does not report a body that ends early
        raise http.client.IncompleteRead(b"", response.length)
    return received


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None
