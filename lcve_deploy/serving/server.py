"""The server as a whole: it loads its models, listens, looks at its folders, and ends when it has answered."""

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
from lcve_deploy.serving.grpc.handlers import start_grpc
from lcve_deploy.serving.http.app import http_app, metrics_app
from lcve_deploy.serving.http.server import HttpServer
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.settings import ServerSettings
from lcve_deploy.serving.shared_memory import Regions
from lcve_deploy.serving.state import ServerState
from lcve_deploy.serving.telemetry.metrics import Metrics
from lcve_deploy.serving.tls import grpc_credentials, http_context

__all__ = ["Ports", "serve"]

_LOG = logging.getLogger(__name__)

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where a server listens; None where it does not."""

    http: int | None
    grpc: int | None
    metrics: int | None


def serve(settings: ServerSettings, started: Callable[[Ports], None]) -> None:
    """Serve until SIGTERM or SIGINT, then answer what was accepted, and return. SIGHUP loads all models again.

    Args:
        settings: all of it.
        started: told once, when every model is loaded and every port listens.

    Raises:
        ArtifactError, SignatureError, SessionError, ParityError: a model cannot be loaded at the start.
        RequestError: a port, token file or TLS file that cannot be used.
        MissingDependencyError: something of the extra ``serve`` is not installed.
    """
    asyncio.run(_serve(settings, started))


async def _serve(settings: ServerSettings, started: Callable[[Ports], None]) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_unhandled)
    access = Access(read_tokens(settings.token_file) if settings.token_file else None, settings.limits.rate)
    metrics = Metrics()
    workers = settings.batching.instances * len(settings.sources) * (settings.versions + 1)
    with ThreadPoolExecutor(workers, thread_name_prefix="lcve-run") as threads:
        registry = Registry(settings, threads, metrics)
        state = ServerState(
            registry=registry,
            regions=Regions(allowed=settings.limits.shared_memory),
            access=access,
            metrics=metrics,
            limits=settings.limits,
        )
        stop = _stop_event(registry)
        try:
            await registry.refresh()
            _require_loaded(registry)
            async with _listening(settings, state) as ports:
                started(ports)
                async with _polling(settings, state):
                    await stop.wait()
                await _drain(settings, state)
        finally:
            await registry.close()
            state.regions.unregister()


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What goes wrong outside any request goes to the log."""
    _LOG.error(context["message"], extra={"error": str(context.get("exception"))}, exc_info=context.get("exception"))


def _stop_event(registry: Registry) -> asyncio.Event:
    """Set by SIGTERM and SIGINT; a second one ends the process at once."""
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
    """A server starts with all of its models, or not at all."""
    for name in registry.names:
        if registry.versions(name):
            continue
        failures = registry.failures(name)
        if not failures:
            raise ArtifactError(
                f"the folder of the model {name} has neither a manifest.json nor a folder named by a version number",
                hint="give the server/ of an artifact",
            )
        number = max(failures)
        raise SessionError(f"the model {name}, version {number}, cannot be served: {failures[number]}")


@contextlib.asynccontextmanager
async def _listening(settings: ServerSettings, state: ServerState) -> AsyncIterator[Ports]:
    """All ports, for as long as the block runs; then the connections are closed."""
    context = http_context(settings.tls) if settings.tls else None
    credentials = grpc_credentials(settings.tls) if settings.tls else None
    limits, host = settings.limits, settings.host
    async with contextlib.AsyncExitStack() as stack:

        async def listen(app: Any, port: int | None, tls: Any) -> int | None:
            if port is None:
                return None
            server = HttpServer(app, connections=limits.connections, first_request_seconds=limits.read_seconds)
            bound = await server.start(host, port, tls)
            stack.push_async_callback(server.close)
            stoppers.append(server.stop_listening)
            return bound

        stoppers: list[Callable[[], None]] = []
        http = await listen(http_app(state), settings.http_port, context)
        metrics = await listen(metrics_app(state), settings.metrics_port, None)
        grpc = None
        if settings.grpc_port is not None:
            server, grpc = await start_grpc(state, host, settings.grpc_port, credentials)
            stack.push_async_callback(server.stop, settings.grace)
        yield Ports(http=http, grpc=grpc, metrics=metrics)
        for stop_listening in stoppers:
            stop_listening()


@contextlib.asynccontextmanager
async def _polling(settings: ServerSettings, state: ServerState) -> AsyncIterator[None]:
    """Looks at the folders from time to time while the block runs."""
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
    """Refresh; whatever goes wrong is logged, and what is served stays."""
    task = asyncio.ensure_future(registry.refresh(force=force))
    try:
        await asyncio.wait([task])
    finally:
        task.cancel()
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("folders not looked at", extra={"error": str(error)}, exc_info=error)


async def _drain(settings: ServerSettings, state: ServerState) -> None:
    """Not ready from now on; what was accepted is answered, for as long as the grace lasts."""
    state.stopping = True
    _LOG.info("stopping", extra={"pending": state.pending, "grace_seconds": settings.grace})
    deadline = asyncio.get_running_loop().time() + settings.grace
    while state.pending and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.02)
    _LOG.info("stopped", extra={"unanswered": state.pending})
