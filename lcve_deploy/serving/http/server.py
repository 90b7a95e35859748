"""HTTP server for aiohttp applications, with limits that aiohttp lacks: connections, and time to the first request."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final

from lcve_deploy.errors import RequestError

__all__ = ["HttpServer"]

_KEEPALIVE_SECONDS: Final = 75.0


class HttpServer:
    """Serve one application on one port.

    Args:
        app: aiohttp application.
        connections: maximum concurrent connections; further ones are closed at once.
        first_request_seconds: seconds until the headers of a connection's first request must have arrived.
    """

    def __init__(self, app: Any, *, connections: int, first_request_seconds: float) -> None:
        from aiohttp import web

        self._max_connections, self._first_request_seconds = connections, first_request_seconds
        self._unused: set[Any] = set()
        app.middlewares.insert(0, self._tracking_middleware(web))
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS, handler_cancellation=True, shutdown_timeout=0
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
        await self._runner.setup()
        try:
            self._listening = await asyncio.get_running_loop().create_server(self._connect, host, port, ssl=context)
        except OSError as error:
            await self._runner.cleanup()
            raise RequestError(
                f"HTTP cannot listen on {host}:{port}: {error.strerror}",
                hint="if the port is in use, choose another, or any free one with --http-port 0 (or --metrics-port 0)",
            ) from None
        bound: int = self._listening.sockets[0].getsockname()[1]
        return bound

    def stop_listening(self) -> None:
        """Accept no more connections; existing ones continue."""
        self._listening.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._runner.cleanup()

    def _tracking_middleware(self, web: Any) -> Any:
        """Return a middleware that records which connections have sent a request, and sets common headers."""

        async def track(request: Any, handler: Any) -> Any:
            self._unused.discard(request.protocol)
            response = await handler(request)
            response.headers["Server"] = "lcve-deploy"
            if not self._listening.is_serving():
                response.force_close()
            return response

        return web.middleware(track)

    def _connect(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection; one that closes it if there are too many."""
        server = self._runner.server
        if server is None or len(server.connections) >= self._max_connections:
            return _RefusedConnection()
        protocol = server()
        self._unused.add(protocol)
        asyncio.get_running_loop().call_later(self._first_request_seconds, self._close_unused, protocol)
        return protocol

    def _close_unused(self, protocol: Any) -> None:
        if protocol in self._unused:
            self._unused.discard(protocol)
            protocol.force_close()


class _RefusedConnection(asyncio.Protocol):
    """Protocol of a connection above the limit."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close the connection at once."""
        transport.close()
