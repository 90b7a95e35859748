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
from lcve_deploy.protocol.retrying import RETRY_AFTER
from lcve_deploy.remote.limits import MAX_HEAD_BYTES, BodyLimits

__all__ = ["Connection", "Reply"]

_MAX_DIGITS: Final = 16
_OK: Final = 200
_PIECE: Final = 2**16
"""Bytes that are sent under one timeout."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reply:
    """Status, body and relevant headers of a response."""

    status: int
    body: bytes
    header_length: int | None
    encoding: str
    retry_after: str = ""


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
        self._raw._create_connection = self._connect  # type: ignore[attr-defined]  # its own timeout is per address
        self._raw.send = self._send  # type: ignore[method-assign, assignment]  # its own timeout is per write, with TLS
        self._end, self._budget, self.used = 0.0, 0, False

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        seconds: float,
        limits: BodyLimits,
    ) -> Reply:
        """Send one request and return its response.

        Args:
            method: HTTP method.
            path: request path.
            body: request body, if any.
            headers: request headers.
            seconds: deadline for the whole exchange: connecting, sending and receiving.
            limits: maximum bytes of the body of a response with status 200. Of an error, only so much is read as
                a message can have.

        Raises:
            TimeoutError: the response did not end in time.
            SessionError: the response is larger.
            OSError, http.client.HTTPException: the connection failed.
        """
        self._end = time.monotonic() + seconds
        self._budget = 2 * (max(limits.json, limits.binary) + 2 * MAX_HEAD_BYTES)  # twice, as chunks have headers
        # A server that refuses a large body may respond and close before it has received all of it. Read that response.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._raw.request(method, path, body=body, headers=dict(headers))
        with self._raw.getresponse() as response:
            header_length = _whole(response.getheader("Inference-Header-Content-Length", ""))
            if response.status == _OK:
                received = _read(response, _max_bytes(header_length, limits))
            else:
                received = self._read_error(response)
            self.used = True
            return Reply(
                status=response.status,
                body=received,
                header_length=header_length,
                encoding=response.getheader("Content-Encoding", "identity"),
                retry_after=response.getheader(RETRY_AFTER, ""),
            )

    def close(self) -> None:
        """Close the connection."""
        self._raw.close()

    def _connect(self, address: tuple[str, int], *_: object) -> socket.socket:
        """Connect to the first address of a host that accepts; replaces ``socket.create_connection``."""
        failure = OSError(f"no address of {address[0]}")
        for family, kind, protocol, _name, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(self._left())
                sock.connect(place)
                sock.settimeout(self._left())  # a TLS handshake follows
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure

    def _send(self, data: bytes) -> None:
        if self._raw.sock is None:
            self._raw.connect()
        rest = memoryview(data)
        while rest:
            self._raw.sock.settimeout(self._left())
            rest = rest[self._raw.sock.send(rest[:_PIECE]) :]

    def _read_error(self, response: http.client.HTTPResponse) -> bytes:
        """Read the body of an error; of a larger one, nothing is kept, and the connection is closed."""
        received = response.read(MAX_HEAD_BYTES + 1)
        if len(received) <= MAX_HEAD_BYTES:
            return received
        self.close()
        return b""

    def _response(self, sock: socket.socket, *given: Any, **more: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *given, **more)
        response.fp.close()
        response.fp = io.BufferedReader(_Bounded(sock, self._left, self._spend))
        return response

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response did not end in time")
        return left

    def _spend(self, count: int) -> None:
        """Count bytes of a response. Headers, chunk sizes and trailers could otherwise continue without end."""
        self._budget -= count
        if self._budget < 0:
            raise SessionError("the response has more bytes than expected")


class _Bounded(io.RawIOBase):
    """Raw reads from a socket under one overall deadline and size, instead of a timeout that restarts with each read.

    Args:
        sock: connected socket.
        left: gives the remaining seconds, or raises ``TimeoutError``.
        spend: is told how many bytes were read; raises ``SessionError`` if they are too many.
    """

    def __init__(self, sock: socket.socket, left: Callable[[], float], spend: Callable[[int], None]) -> None:
        self._sock, self._left, self._spend, self._raw = sock, left, spend, sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read into ``buffer``; see ``io.RawIOBase``.

        Raises:
            TimeoutError: the deadline has passed.
            SessionError: the response has too many bytes.
        """
        self._sock.settimeout(self._left())
        count = self._raw.readinto(buffer)
        self._spend(count or 0)
        return count

    def close(self) -> None:
        """Close the file; the connection keeps its socket."""
        self._raw.close()
        super().close()


def _max_bytes(header_length: int | None, limits: BodyLimits) -> int:
    """Return the maximum bytes of a body with a JSON header of so many bytes, or that is JSON as a whole."""
    if header_length is None:
        return limits.json
    if header_length > MAX_HEAD_BYTES:
        raise SessionError(f"the response has a header of more than {MAX_HEAD_BYTES} bytes")
    return header_length + limits.binary


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    received = b"" if (response.length or 0) > max_bytes else response.read(max_bytes + 1)
    if max(response.length or 0, len(received)) > max_bytes:
        raise SessionError(f"the response has more than {max_bytes} bytes")
    if response.length:  # given a size, http.client does not report a body that ends early
        raise http.client.IncompleteRead(b"", response.length)
    return received


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < _MAX_DIGITS else None
