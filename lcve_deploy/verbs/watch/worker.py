"""A thread whose error is not lost."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from types import TracebackType

__all__ = ["BackgroundThread"]


class BackgroundThread:
    """Work in a thread of its own, which does not keep the process alive.

    Args:
        work: to be done.
        finally_: done after it, whether or not it failed.
    """

    def __init__(self, work: Callable[[], None], *, finally_: Callable[[], None] | None = None) -> None:
        self.error: BaseException | None = None
        self._work, self._finally = work, finally_
        self._thread = Thread(target=self._run, daemon=True, name=work.__name__)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def is_running(self) -> bool:
        """Whether it continues."""
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        """Wait for its end, but no longer than so many seconds."""
        self._thread.join(timeout)

    def _run(self) -> None:
        with self:
            self._work()
        if self._finally:
            self._finally()

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Keep an error for the thread that asks for it, and raises it there."""
        self.error = error
        return True
