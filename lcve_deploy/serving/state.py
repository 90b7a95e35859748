"""State of a server, shared by gRPC and HTTP: models, shared memory, access control, limits and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lcve_deploy.errors import UnavailableError
from lcve_deploy.serving.access import Access, Client
from lcve_deploy.serving.codes import client_message, code_of
from lcve_deploy.serving.hosts import is_loopback, peer_host
from lcve_deploy.serving.models.keys import AllowedKeys
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.sealing import ServerSealing
from lcve_deploy.serving.settings import Limits
from lcve_deploy.serving.shared_memory import ClientRegions, Regions
from lcve_deploy.serving.sizes import max_message_bytes
from lcve_deploy.serving.telemetry.metrics import Metrics
from lcve_deploy.serving.telemetry.repeated import RepeatedEvents
from lcve_deploy.serving.web import WebPolicy

__all__ = ["Exchange", "ServerState"]

_LOG = logging.getLogger(__name__)


class Exchange:
    """One request from arrival to response, for the log, the metrics, and its client's shared memory.

    Args:
        protocol: ``http`` or ``grpc``.
        call: name of the call.
        address: network address of the client, as the library names it.
    """

    def __init__(self, protocol: str, call: str, address: str) -> None:
        self.protocol, self.call, self.address = protocol, call, address
        self.client = address
        self.keys: AllowedKeys = None
        """Ids of the keys that the client may use; None for all."""
        self.key, self.model, self.version, self.id, self.batch = "", "", "", "", 0
        self.started = time.monotonic()
        self.deadline: float | None = None
        """Time at which the client gives up, in monotonic seconds."""

    def identify(self, client: Client) -> None:
        """Note who sent the request, and which keys they may use."""
        self.client, self.keys = client.name, client.keys

    def timeout(self, requested: float | None) -> float | None:
        """Return the seconds that remain to answer, given those that the request asks for; None for no limit."""
        remaining = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        return min((seconds for seconds in (requested, remaining) if seconds is not None), default=None)


class ServerState:
    """State of one server. Use it on one event loop only.

    Args:
        registry: models.
        regions: shared memory regions.
        access: authentication and rate limits.
        web: web pages and names of the server that are accepted.
        metrics: metrics, updated with every request.
        limits: limits on requests.
        sealing: keys for sealed requests; None opens none.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        regions: Regions,
        access: Access,
        web: WebPolicy,
        metrics: Metrics,
        limits: Limits,
        sealing: ServerSealing | None = None,
    ) -> None:
        self.sealing = sealing
        self.registry, self.regions, self.access, self.web = registry, regions, access, web
        self.metrics, self.limits = metrics, limits
        self.stopped, self.parsing = asyncio.Event(), asyncio.Lock()
        self.grpc_bytes: int | None = None
        """Maximum bytes of a gRPC message, fixed when gRPC starts to listen; None before, and without gRPC."""
        self._needed_bytes = 0
        self._pending, self._streams, self._small, self._repeated = 0, 0, 0, RepeatedEvents(_LOG)
        metrics.watch_pending(lambda: self._pending)

    @property
    def stopping(self) -> bool:
        """Whether the server is shutting down."""
        return self.stopped.is_set()

    @property
    def ready(self) -> bool:
        """Whether every model is served and the server is not shutting down."""
        return self.registry.ready and not self.stopping

    @property
    def pending(self) -> int:
        """Number of requests in progress."""
        return self._pending

    async def refresh(self, name: str | None = None, *, force: bool = False) -> None:
        """Refresh the models, as ``Registry.refresh`` does, and log once if gRPC refuses the largest requests of them.

        Raises:
            UnknownModelError: no such model.
        """
        await self.registry.refresh(name, force=force)
        before, self._needed_bytes = self._needed_bytes, max_message_bytes(self.registry, self.limits)
        if self.grpc_bytes is not None and self._needed_bytes > max(self.grpc_bytes, before):
            fields = {"bytes": self._needed_bytes, "accepted": self.grpc_bytes}
            _LOG.warning("gRPC refuses the largest requests of the models until the server is restarted", extra=fields)

    def regions_of(self, exchange: Exchange) -> ClientRegions:
        """Return the shared memory regions of a request's client. Without tokens, all clients are one."""
        client = exchange.client if self.access.tokens is not None else ""
        return self.regions.of(client, is_local=is_loopback(peer_host(exchange.address)))

    @contextmanager
    def pending_request(self) -> Iterator[None]:
        """Count a request as in progress while the block runs. Enter before reading the request's body.

        Raises:
            UnavailableError: the maximum number of requests is in progress, or the server is shutting down.
        """
        if self.stopping:
            raise UnavailableError("the server is shutting down", hint="use another server")
        if self._pending >= self.limits.requests:
            raise UnavailableError(
                f"the server is full: {self._pending} requests are in progress, the maximum is {self.limits.requests}",
                hint="try again later, or use another server",
                retry_after=self.registry.run_seconds,
            )
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    @contextmanager
    def open_stream(self) -> Iterator[None]:
        """Count a gRPC stream as open while the block runs: it may hold a message that has not arrived completely.

        Raises:
            UnavailableError: the maximum number of streams is open, or the server is shutting down.
        """
        if self.stopping:
            raise UnavailableError("the server is shutting down", hint="use another server")
        if self._streams >= self.limits.requests:
            raise UnavailableError(
                f"the server is full: {self._streams} streams are open, the maximum is {self.limits.requests}",
                hint="try again later, or use another server",
            )
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def small_call(self) -> Iterator[None]:
        """Count a gRPC call without a tensor while its message is read: it may be as large as one with a tensor.

        These calls have a maximum of their own, so that health is answered by a server that is full or stops.

        Raises:
            UnavailableError: the maximum number of such messages is being read.
        """
        if self._small >= self.limits.requests:
            raise UnavailableError(f"{self._small} calls without tensors are being read", hint="try again later")
        self._small += 1
        try:
            yield
        finally:
            self._small -= 1

    def connection_closed(self, reason: str) -> None:
        """Count an HTTP connection that was closed or refused because of a limit; log a bounded number of lines.

        Args:
            reason: ``limit``, ``evicted``, ``handshake``, ``timeout``, ``malformed`` or ``descriptors``.
        """
        self.metrics.record_closed(reason)
        self._repeated.record("connections closed", reason)

    def finish(self, exchange: Exchange, error: BaseException | None = None, code: str = "OK") -> None:
        """Count and log a finished request. The log contains names and numbers, no tensors.

        Args:
            exchange: the request.
            error: reason of a failure; None if the request succeeded or ``code`` says otherwise.
            code: name of the gRPC status, if there is no error; ``CANCELLED`` if the client gave up.
        """
        seconds = time.monotonic() - exchange.started
        code = code_of(error).grpc if error is not None else code
        model = exchange.model if exchange.model in self.registry.names else ""
        self.metrics.record_request(model, exchange.protocol, code, seconds)
        fields = {
            "protocol": exchange.protocol,
            "call": exchange.call,
            "client": exchange.client,
            "model": exchange.model[:100],
            "version": exchange.version,
            "key": exchange.key,
            "id": exchange.id[:100],
            "clips": exchange.batch,
            "code": code,
            "ms": round(1e3 * seconds, 3),
        }
        if code == "CANCELLED":
            _LOG.info("request cancelled", extra=fields)
        elif error is None:
            _LOG.info("request answered", extra=fields)
        elif code == "INTERNAL":
            _LOG.error("request failed", extra={**fields, "error": str(error)}, exc_info=error)
        else:
            _LOG.warning("request refused", extra={**fields, "error": client_message(error)[:500]})
