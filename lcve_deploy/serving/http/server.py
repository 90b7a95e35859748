"""HTTP server for aiohttp applications, with limits that aiohttp lacks: on connections, TLS handshakes and heads.

Connections are accepted here rather than by asyncio, which counts none before its TLS handshake is complete, and logs
a line for each connection of the backlog if the process has no file descriptor left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from lcve_deploy.errors import RequestError
from lcve_deploy.serving.http.connection import Connection, ConnectionTimes

__all__ = ["HttpServer"]

_BACKLOG: Final = 128
_ACCEPT_PAUSE: Final = 0.2
"""Seconds to wait if the system gives no connection, for example because the process has no file descriptor left."""


class HttpServer:
    """Serve one application on one port.

    At the maximum of connections, a new one takes the place of the one that has been without a request for longest, so
    clients that connect and send nothing cannot keep others out.

    Args:
        app: aiohttp application.
        connections: maximum concurrent connections, including those in a TLS handshake.
        read_seconds: seconds until a TLS handshake, and each head of a request, must be complete.
        closed: called with the reason whenever a connection is closed or refused because of a limit.
    """

    def __init__(self, app: Any, *, connections: int, read_seconds: float, closed: Callable[[str], None]) -> None:
        from aiohttp import web

        self._max_connections, self._times, self._closed = connections, ConnectionTimes(head=read_seconds), closed
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._open: dict[Connection, None] = {}
        self._context: ssl.SSLContext | None = None
        app.middlewares.insert(0, self._tracking_middleware(web))
        self._runner = web.AppRunner(
            app, access_log=None, logger=_logger(closed), handler_cancellation=True, shutdown_timeout=0
        )

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Start to listen, and return the port.

        Args:
            host: address to listen on.
            port: port to listen on; 0 lets the system choose.
            context: TLS context; None for plain connections.

        Raises:
            RequestError: the port is unavailable.
        """
        self._context = context
        try:
            self._listeners = await asyncio.to_thread(_listen, host, port)
        except OSError as error:
            raise RequestError(
                f"HTTP cannot listen on {host}:{port}: {error.strerror}",
                hint="if the port is in use, choose another, or any free one with --http-port 0 (or --metrics-port 0)",
            ) from None
        await self._runner.setup()
        self._accepting = [asyncio.create_task(self._accept(listener)) for listener in self._listeners]
        bound: int = self._listeners[0].getsockname()[1]
        return bound

    def stop_listening(self) -> None:
        """Accept no more connections; existing ones continue."""
        for task in self._accepting:
            task.cancel()
        for listener in self._listeners:
            listener.close()
        self._accepting, self._listeners = [], []

    async def close(self) -> None:
        """Close all connections."""
        self.stop_listening()
        for task in self._handshakes:
            task.cancel()
        await self._runner.cleanup()

    def _tracking_middleware(self, web: Any) -> Any:
        """Return a middleware that tells a connection when a request begins and ends, and sets common headers."""

        async def track(request: Any, handler: Any) -> Any:
            connection = request.transport.get_protocol() if request.transport else None
            if connection is None:
                raise ConnectionResetError("the client has disconnected")
            connection.begin_request()
            try:
                response = await handler(request)
            finally:
                connection.end_request()
            response.headers["Server"] = "lcve-deploy"
            if not self._listeners:
                response.force_close()
            return response

        return web.middleware(track)

    async def _accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError:
                self._closed("descriptors")
                await asyncio.sleep(_ACCEPT_PAUSE)
                continue
            if self._is_full() and not self._evict():
                self._closed("limit")
                accepted.close()
            else:
                self._start_handshake(accepted)
            await asyncio.sleep(0)  # sock_accept does not yield while connections are waiting

    def _start_handshake(self, accepted: socket.socket) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(accepted))
        self._handshakes[task] = None

        def finish(task: asyncio.Task[None]) -> None:
            self._handshakes.pop(task, None)
            if task.cancelled():  # perhaps before it began
                accepted.close()

        task.add_done_callback(finish)

    def _is_full(self) -> bool:
        return len(self._handshakes) + len(self._open) >= self._max_connections

    def _evict(self) -> bool:
        """Close the oldest handshake, or else the oldest connection without a request; return whether there is one."""
        for task in self._handshakes:
            task.cancel()
            del self._handshakes[task]
            self._closed("evicted")
            return True
        for connection in self._open:
            if not connection.busy:
                del self._open[connection]
                connection.abort()
                self._closed("evicted")
                return True
        return False

    async def _connect(self, accepted: socket.socket) -> None:
        """Complete the TLS handshake, if any, and connect the socket to aiohttp."""
        seconds = None if self._context is None else self._times.head
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, accepted, ssl=self._context, ssl_handshake_timeout=seconds
            )
        except OSError:  # ssl.SSLError and TimeoutError are among its subclasses
            self._closed("handshake")
            accepted.close()

    def _protocol(self) -> Connection:
        return Connection(
            self._runner.server(),  # type: ignore[misc]
            self._times,
            opened=lambda connection: self._open.setdefault(connection),
            closed=lambda connection: self._open.pop(connection, None),
            expired=lambda: self._closed("timeout"),
        )


def _listen(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for all addresses of a host, on the same port.

    Raises:
        OSError: the host is unknown, or the port is unavailable.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        for family, _, _, _, address in dict.fromkeys(found):
            bound = listeners[0].getsockname()[1] if listeners else port
            listener = socket.create_server((address[0], bound), family=family, backlog=_BACKLOG)
            stack.callback(listener.close)
            listener.setblocking(False)
            listeners.append(listener)
        stack.pop_all()
    return listeners


def _logger(closed: Callable[[str], None]) -> logging.Logger:
    """Return a logger for aiohttp that only counts malformed requests: it would log tracebacks that quote them."""
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    def keep(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError | RequestPayloadError):
            closed("malformed")
            return False
        return record.levelno >= logging.WARNING

    logger = logging.Logger("aiohttp.server", logging.DEBUG)  # a method that is none is logged at this level
    logger.parent = logging.getLogger()
    logger.addFilter(keep)
    return logger
