"""The server process: load the models, listen, poll the model folders, and shut down gracefully."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lcve_deploy.errors import ArtifactError, SessionError
from lcve_deploy.serving.access import Access, read_tokens
from lcve_deploy.serving.descriptors import METRICS_CONNECTIONS, reserve_descriptors
from lcve_deploy.serving.ending import Ending
from lcve_deploy.serving.grpc.handlers import start_grpc
from lcve_deploy.serving.http.app import http_app, metrics_app
from lcve_deploy.serving.http.server import HttpServer
from lcve_deploy.serving.models.registry import Registry
from lcve_deploy.serving.models.served import Threads
from lcve_deploy.serving.reloading import Reloader
from lcve_deploy.serving.sealing import ServerSealing
from lcve_deploy.serving.settings import ServerSettings
from lcve_deploy.serving.shared_memory import Regions
from lcve_deploy.serving.signals import Signals, early_signals
from lcve_deploy.serving.state import ServerState
from lcve_deploy.serving.telemetry.logs import silence_grpc
from lcve_deploy.serving.telemetry.metrics import Metrics
from lcve_deploy.serving.tls import ServerTls
from lcve_deploy.serving.web import WebPolicy

__all__ = ["Ports", "serve"]

_LOG = logging.getLogger(__name__)

_KEY_READERS = 2
"""Threads that read the files of keys."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Ports on which a server listens; None for a protocol that is off."""

    http: int | None
    grpc: int | None
    metrics: int | None


def serve(settings: ServerSettings, started: Callable[[Ports], None], signals: Signals | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then answer the accepted requests and return.

    SIGHUP reloads tokens, TLS files, sealing keys and all models; while the server starts, as soon as it has started.

    Args:
        settings: configuration of the server.
        started: called once, when every model is loaded and every port is open; never if the server is told to stop
            before.
        signals: signals that may have arrived already, from ``early_signals``.

    Raises:
        ArtifactError: a model folder contains no model.
        SessionError: a model failed to load.
        RequestError: a port, token file or TLS file is unusable.
        KeyFileError: a file is not a private sealing key.
        OSError: a token file or TLS file cannot be read.
        MissingDependencyError: a package of the extra ``serve`` is not installed.
    """
    reserve_descriptors(settings)
    silence_grpc()
    ending = Ending(settings.grace)
    with contextlib.ExitStack() as stack:
        stack.callback(ending.finish)
        received = stack.enter_context(early_signals()) if signals is None else signals
        asyncio.run(_serve(settings, started, received, ending))


async def _serve(settings: ServerSettings, started: Callable[[Ports], None], signals: Signals, ending: Ending) -> None:
    asyncio.get_running_loop().set_exception_handler(_log_unhandled)
    access = Access(read_tokens(settings.token_file) if settings.token_file else None, settings.limits.rate)
    sealing = ServerSealing(settings.sealing) if settings.sealing else None
    metrics = Metrics()
    workers = settings.batching.instances * len(settings.sources) * (settings.versions + 1)
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="lcve-run") as engines,
        ThreadPoolExecutor(_KEY_READERS, thread_name_prefix="lcve-keys") as readers,
    ):
        registry = Registry(settings, Threads(engines=engines, readers=readers), metrics)
        state = ServerState(
            registry=registry,
            regions=Regions(settings.limits.shared_memory),
            access=access,
            web=WebPolicy.of(settings),
            metrics=metrics,
            limits=settings.limits,
            sealing=sealing,
        )
        tls = ServerTls(settings.tls) if settings.tls else None
        reloader, stop = _reloader(settings, state, tls), asyncio.Event()
        signals.hand_over(stop=stop, reload=reloader.request)
        try:
            if not await _load_models(registry, stop):
                return
            async with _listening(settings, state, tls, ending) as ports:
                started(ports)
                async with _polling(settings, state), reloader.running():
                    await stop.wait()
                ending.begin()
                await _drain(state, ending)
        finally:
            await registry.close()
            state.regions.close()


def _log_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that occurred outside any request."""
    _LOG.error(context["message"], extra={"error": str(context.get("exception"))}, exc_info=context.get("exception"))


def _reloader(settings: ServerSettings, state: ServerState, tls: ServerTls | None) -> Reloader:
    """Return what SIGHUP reloads. Whatever else is read from files is added here."""
    reloader = Reloader(lambda: _refresh_and_log(state, force=True))
    if settings.token_file is not None:
        tokens = settings.token_file
        reloader.add("tokens", lambda: state.access.replace_tokens(read_tokens(tokens)))
    if tls is not None:
        reloader.add("TLS", tls.reload)
    if state.sealing is not None:
        reloader.add("sealing keys", state.sealing.reload)
    return reloader


async def _load_models(registry: Registry, stop: asyncio.Event) -> bool:
    """Load all models; return False if the server is told to stop before they are loaded.

    Raises:
        ArtifactError, SessionError: see ``_require_loaded``.
    """
    loading, stopping = asyncio.create_task(registry.refresh()), asyncio.create_task(stop.wait())
    await asyncio.wait([loading, stopping], return_when=asyncio.FIRST_COMPLETED)
    loading.cancel()
    stopping.cancel()
    await asyncio.wait([loading, stopping])
    if stop.is_set():
        _LOG.info("stopped while starting")
        return False
    loading.result()
    _require_loaded(registry)
    return True


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
async def _listening(
    settings: ServerSettings, state: ServerState, tls: ServerTls | None, ending: Ending
) -> AsyncIterator[Ports]:
    """Listen on all ports while the block runs, then close the connections."""
    context = tls.http_context() if tls else None
    credentials = tls.grpc_credentials() if tls and settings.grpc_port is not None else None
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
        await _refresh_and_log(state)


async def _refresh_and_log(state: ServerState, *, force: bool = False) -> None:
    """Refresh the models. On any error, log it and keep what is served."""
    task = asyncio.ensure_future(state.refresh(force=force))
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
