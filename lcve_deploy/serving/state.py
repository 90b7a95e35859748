"""What a server knows: its models, shared memory, gate and counts. Both fronts speak for one of these."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lcve_deploy.errors import UnavailableError
from lcve_deploy.serving.access import Access
from lcve_deploy.serving.codes import client_message, code_of
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.settings import Limits
from lcve_deploy.serving.shared_memory import Regions
from lcve_deploy.serving.telemetry.metrics import Metrics

__all__ = ["Exchange", "ServerState"]

_LOG = logging.getLogger(__name__)


class Exchange:
    """One request from its arrival to its answer, for the log and the metrics."""

    def __init__(self, protocol: str, call: str, client: str) -> None:
        self.protocol, self.call, self.client = protocol, call, client
        self.model, self.version, self.id, self.batch = "", "", "", 0
        self.started = time.monotonic()


class ServerState:
    """Used on one event loop.

    Args:
        registry: of the models.
        regions: of shared memory.
        access: tokens and rates.
        metrics: told of every request.
        limits: of requests.
    """

    def __init__(
        self, *, registry: Registry, regions: Regions, access: Access, metrics: Metrics, limits: Limits
    ) -> None:
        self.registry, self.regions, self.access = registry, regions, access
        self.metrics, self.limits = metrics, limits
        self.stopping, self.parsing = False, asyncio.Lock()
        self._pending = 0
        metrics.watch_pending(lambda: self._pending)

    @property
    def ready(self) -> bool:
        """Whether every model is served, and the server is not about to end."""
        return self.registry.ready and not self.stopping

    @property
    def pending(self) -> int:
        """Requests that are in work."""
        return self._pending

    @contextmanager
    def pending_request(self) -> Iterator[None]:
        """A request's place among those in work, taken before its body is read.

        Raises:
            UnavailableError: all places are taken, or the server is about to end.
        """
        if self.stopping:
            raise UnavailableError("the server is about to end", hint="ask another server")
        if self._pending >= self.limits.requests:
            raise UnavailableError(
                f"{self._pending} requests are in work, and at most {self.limits.requests} may be",
                hint="try again later, or another server",
            )
        self._pending += 1
        try:
            yield
        finally:
            self._pending -= 1

    def finish(self, exchange: Exchange, error: BaseException | None = None, code: str = "OK") -> None:
        """Count a request, and log it: names and numbers, no tensors."""
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
            "id": exchange.id[:100],
            "clips": exchange.batch,
            "code": code,
            "ms": round(1e3 * seconds, 3),
        }
        if error is None:
            _LOG.info("answered", extra=fields)
        elif code == "INTERNAL":
            _LOG.error("failed", extra={**fields, "error": str(error)}, exc_info=error)
        else:
            _LOG.warning("refused", extra={**fields, "error": client_message(error)[:500]})
