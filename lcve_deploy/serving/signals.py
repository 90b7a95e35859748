"""Signals of the server process: nothing that arrives while it starts kills it or is lost."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncio

__all__ = ["Signals", "early_signals"]

_STOP: Final = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """Signals that have arrived before the event loop runs; ``hand_over`` passes them on."""

    def __init__(self) -> None:
        self._arrived = set[int]()

    def note(self, number: int, frame: Any = None) -> None:
        """Remember a signal; a handler for ``signal.signal``."""
        self._arrived.add(number)

    def hand_over(self, *, stop: asyncio.Event, reload: Callable[[], None]) -> None:
        """Handle signals on the running event loop from now on, and those that have arrived already.

        Args:
            stop: set by SIGTERM and SIGINT. A second one of these signals kills the process at once.
            reload: called for SIGHUP.
        """
        import asyncio  # takes as long to import as the rest of the command line

        loop = asyncio.get_running_loop()

        def request_stop() -> None:
            if stop.is_set():
                signal.raise_signal(signal.SIGKILL)
            stop.set()

        for number in _STOP:
            loop.add_signal_handler(number, request_stop)
        loop.add_signal_handler(signal.SIGHUP, reload)
        if signal.SIGTERM in self._arrived:
            stop.set()
        if signal.SIGHUP in self._arrived:
            reload()
        self._arrived.clear()


@contextlib.contextmanager
def early_signals() -> Iterator[Signals]:
    """Remember SIGTERM and SIGHUP while the block runs, unless ``Signals.hand_over`` handles them.

    Enter before large libraries are imported: until then, either signal kills the process.
    """
    signals = Signals()
    previous = {number: signal.signal(number, signals.note) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
