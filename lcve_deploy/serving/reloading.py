"""Reload files without a restart: SIGHUP reads everything again that is registered here, then the models."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from lcve_deploy.errors import LcveError

__all__ = ["Reloader"]

_LOG: Final = logging.getLogger(__name__)


class Reloader:
    """Everything that SIGHUP reloads. Use it on one event loop only.

    Args:
        models: coroutine function that reloads the models and logs their errors; called last.
    """

    def __init__(self, models: Callable[[], Awaitable[None]]) -> None:
        self._models, self._requested = models, asyncio.Event()
        self._files: dict[str, Callable[[], None]] = {}

    def add(self, what: str, reload: Callable[[], None]) -> None:
        """Register files that can be read again.

        Args:
            what: name of the files, for the log.
            reload: reads the files and takes them into use. If they are invalid, it raises an ``LcveError`` or
                ``OSError`` and changes nothing.
        """
        self._files[what] = reload

    def request(self) -> None:
        """Reload as soon as ``running`` has started and the previous reload is complete."""
        self._requested.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Carry out requests while the block runs. Requests that arrive during a reload are one more reload."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while True:
            await self._requested.wait()
            self._requested.clear()
            for what, reload in self._files.items():
                _reload(what, reload)
            await self._models()
            _LOG.info("reload complete")


def _reload(what: str, reload: Callable[[], None]) -> None:
    """Reload one kind of files. On an error, log it; the files that were read before stay in use."""
    try:
        reload()
    except (LcveError, OSError) as error:
        _LOG.error("files not reloaded; those read before stay in use", extra={"files": what, "error": str(error)})
    else:
        _LOG.info("files reloaded", extra={"files": what})
