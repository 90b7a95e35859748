"""The server process: load the models, listen, poll the model folders, and shut down gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.errors import ArtifactError, SessionError
from lcve_deploy.serving.access import Access, read_tokens
from lcve_deploy.serving.descriptors import METRICS_CONNECTIONS, reserve_descriptors
from lcve_deploy.serving.ending import Ending
from lcve_deploy.serving.grpc.handlers import start_grpc
from lcve_deploy.serving.http.app import http_app, metrics_app
from lcve_deploy.serving.http.server import HttpServer
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.settings import ServerSettings
from lcve_deploy.serving.shared_memory import Regions
from lcve_deploy.serving.state import ServerState
from lcve_deploy.serving.telemetry.logs import silence_grpc
from lcve_deploy.serving.telemetry.metrics import Metrics
from lcve_deploy.serving.tls import grpc_credentials, http_context
from lcve_deploy.serving.web import WebPolicy

__all__ = ["Ports", "serve"]

_LOG = logging.getLogger(__name__)

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports on which a server listens; None for a protocol that is off."""

    http: int | None
    grpc: int | None
    metrics: int | None


def serve(settings: ServerSettings, started: Callable[[Ports], None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer the accepted requests and return. SIGHUP reloads all models.

    Args:
        settings: configuration of the server.
        started: called once, when every model is loaded and every port is open.

    Raises:
        ArtifactError: a model folder contains no model.
        SessionError: a model failed to load.
        RequestError: a port, token file or TLS file is unusable.
        OSError: a token file or TLS file cannot be read.
        MissingDependencyError: a package of the extra ``serve`` is not installed.
    """
    reserve_descriptors(settings)
    silence_grpc()
    ending = Ending(settings.grace)
    try:
        asyncio.run(_serve(settings, started, ending))
    finally:
        ending.finish()


async def _serve(settings: ServerSettings, started: Callable[[Ports], None], ending: Ending) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_unhandled)
    access = Access(read_tokens(settings.token_file) if settings.token_file else None, settings.limits.rate)
    metrics = Metrics()
    workers = settings.batching.instances * len(settings.sources) * (settings.versions + 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="lcve-run") as threads:
        registry = Registry(settings, threads, metrics)
        state = ServerState(
            registry=registry,
            regions=Regions(settings.limits.shared_memory),
            access=access,
            web=WebPolicy.of(settings),
            metrics=metrics,
            limits=settings.limits,
        )
        stop = _stop_event(registry)
        try:
            await registry.refresh()
            _require_loaded(registry)
            async with _listening(settings, state, ending) as ports:
                started(ports)
                async with _polling(settings, state):
                    await stop.wait()
                ending.begin()
                await _drain(state, ending)
        finally:
            await registry.close()
            state.regions.close()


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that occurred outside any request."""
    _LOG.error(context["message"], extra={"error": str(context.get("exception"))}, exc_info=context.get("exception"))


def _stop_event(registry: Registry) -> asyncio.Event:
    """Install the signal handlers; return the event that SIGTERM and SIGINT set.

    A second SIGTERM or SIGINT kills the process at once. SIGHUP reloads all models.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    reloads = set[asyncio.Task[None]]()

    def request_stop() -> None:
        if stop.is_set():
            signal.raise_signal(signal.SIGKILL)
        stop.set()

    def reload() -> None:
        task = loop.create_task(_refresh_and_log(registry, force=True))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, request_stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop


def _require_loaded(registry: Registry) -> None:
    """Raise an error unless every model has a served version: a server starts with all of its models or not at all."""
    for name in registry.names:
        if registry.versions(name):
            continue
        failures = registry.failures(name)
        if not failures:
            raise ArtifactError(
                f"the folder of the model {name} has neither a manifest.json nor a folder named by a version number",
                hint="pass the server/ folder of an artifact",
            )
        number = max(failures)
        raise SessionError(f"the model {name}, version {number}, cannot be served: {failures[number]}")


@contextlib.asynccontextmanager
async def _listening(settings: ServerSettings, state: ServerState, ending: Ending) -> AsyncIterator[Ports]:
    """Listen on all ports while the block runs, then close the connections."""
    context = http_context(settings.tls) if settings.tls else None
    credentials = grpc_credentials(settings.tls) if settings.tls else None
    limits, host = settings.limits, settings.host
    async with contextlib.AsyncExitStack() as stack:

        async def listen(app: Any, port: int | None, connections: int, tls: Any = None) -> int | None:
            if port is None:
                return None
            server = HttpServer(
                app, connections=connections, read_seconds=limits.read_seconds, closed=state.connection_closed
            )
            bound = await server.start(host, port, tls)
            stack.push_async_callback(server.close)
            stoppers.append(server.stop_listening)
            return bound

        stoppers: list[Callable[[], None]] = []
        http = await listen(http_app(state), settings.http_port, limits.connections, context)
        metrics = await listen(metrics_app(state), settings.metrics_port, METRICS_CONNECTIONS)
        grpc = None
        if settings.grpc_port is not None:
            server, grpc = await start_grpc(state, host, settings.grpc_port, credentials)
            stack.push_async_callback(lambda: server.stop(ending.remaining))
        yield Ports(http=http, grpc=grpc, metrics=metrics)
        for stop_listening in stoppers:
            stop_listening()


@contextlib.asynccontextmanager
async def _polling(settings: ServerSettings, state: ServerState) -> AsyncIterator[None]:
    """Poll the model folders while the block runs, unless polling is off."""
    task = asyncio.create_task(_poll(settings, state)) if settings.poll else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.wait([task])


async def _poll(settings: ServerSettings, state: ServerState) -> None:
    while True:
        await asyncio.sleep(settings.poll)
        await _refresh_and_log(state.registry)


async def _refresh_and_log(registry: Registry, *, force: bool = False) -> None:
    """Refresh the models. On any error, log it and keep what is served."""
    task = asyncio.ensure_future(registry.refresh(force=force))
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("refreshing the models failed", extra={"error": str(error)}, exc_info=error)


async def _drain(state: ServerState, ending: Ending) -> None:
    """Report not ready from now on, and wait until accepted requests are answered or no time remains."""
    state.stopped.set()
    _LOG.info("stopping", extra={"pending": state.pending, "grace_seconds": ending.grace})
    while state.pending and ending.remaining:
        await asyncio.sleep(0.02)
    _LOG.info("stopped", extra={"unanswered": state.pending})
