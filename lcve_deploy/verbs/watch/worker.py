"""A background thread that keeps its exception."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from types import TracebackType

__all__ = ["BackgroundThread"]


class BackgroundThread:
    """Run a function in a daemon thread, which does not keep the process alive.

    Args:
        work: the function.
        on_exit: called afterwards, even if ``work`` raised.

    Attributes:
        error: exception that ``work`` raised, if any.
    """

    def __init__(self, work: Callable[[], None], *, on_exit: Callable[[], None] | None = None) -> None:
        self.error: BaseException | None = None
        self._work, self._on_exit = work, on_exit
        self._thread = Thread(target=self._run, daemon=True, name=work.__name__)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def is_running(self) -> bool:
        """Return whether the thread is running."""
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        """Wait until the thread ends, at most ``timeout`` seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        with self:
            self._work()
        if self._on_exit:
            self._on_exit()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Keep the exception; the owner of the thread raises it."""
        self.error = error
        return True
