"""Serve the page until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Final

from lcve_deploy.errors import RequestError
from lcve_deploy.serving.http.server import HttpServer
from lcve_deploy.web.app import page_app
from lcve_deploy.web.models import PageModel
from lcve_deploy.web.settings import PageSettings

__all__ = ["serve_page"]

_LOG: Final = logging.getLogger(__name__)
_CONNECTIONS: Final = 64
_READ_SECONDS: Final = 30.0


def serve_page(settings: PageSettings, model: PageModel, started: Callable[[int], None]) -> None:
    """Serve the page until SIGINT or SIGTERM, then close the model's connections and return.

    Args:
        settings: where to listen.
        model: model behind the page.
        started: called with the port once it is open.

    Raises:
        RequestError: the port is unavailable.
        MissingDependencyError: aiohttp is not installed.
    """
    try:
        asyncio.run(_serve(settings, model, started))
    finally:
        model.close()


async def _serve(settings: PageSettings, model: PageModel, started: Callable[[int], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = HttpServer(
        page_app(settings, model),
        connections=_CONNECTIONS,
        read_seconds=_READ_SECONDS,
        closed=lambda reason: _LOG.debug("connection closed: %s", reason),
    )
    try:
        started(await _start(server, settings))
        await stop.wait()
    finally:
        await server.close()


async def _start(server: HttpServer, settings: PageSettings) -> int:
    """Listen, and return the port.

    Raises:
        RequestError: the port is unavailable.
    """
    try:
        return await server.start(settings.host, settings.port)
    except RequestError as error:
        raise RequestError(str(error), hint="choose another port with --port, or any free one with --port 0") from None
