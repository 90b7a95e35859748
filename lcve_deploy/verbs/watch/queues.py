"""Two bounded queues between threads: windows that wait, and results put back into order."""

from __future__ import annotations

import time
from collections import deque
from threading import Condition
from typing import Generic, TypeVar

from lcve_deploy.verbs.watch.results import WindowResult

__all__ = ["Ordered", "Waiting"]

T = TypeVar("T")


class Waiting(Generic[T]):
    """A queue with so many places.

    Args:
        places: at least 1.
        dropping: whether a newcomer takes the place of the oldest; otherwise it waits for one.
    """

    def __init__(self, places: int, *, dropping: bool) -> None:
        self._places, self._dropping = places, dropping
        self._items, self._closed, self._changed = deque[T](), False, Condition()

    def put(self, item: T) -> T | None:
        """Add an item; returns the one that has no place: the oldest, or this one where the queue is closed."""
        with self._changed:
            while not self._dropping and not self._closed and len(self._items) >= self._places:
                self._changed.wait()
            if self._closed:
                return item
            lost = self._items.popleft() if len(self._items) >= self._places else None
            self._items.append(item)
            self._changed.notify_all()
            return lost

    def take(self) -> T | None:
        """The oldest; waits for one. None once the queue is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Let nothing in any more; what waits can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Close it, and take all that waits."""
        with self._changed:
            self._closed = True
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items


class Ordered:
    """Results that come in any order, and leave in the order of their windows.

    While ``places`` are held, only the result that leaves next is let in, so memory is bounded even where nobody
    takes results. The thread that holds that one is never kept waiting, so the others cannot wait for ever.

    Args:
        places: at least 1.
    """

    def __init__(self, places: int) -> None:
        self._places, self._held, self._next = places, dict[int, WindowResult](), 0
        self._abandoned, self._changed = False, Condition()

    def put(self, result: WindowResult, *, patient: bool = True) -> None:
        """Hand in a result; waits for a place, where it is patient."""
        with self._changed:
            while patient and self._is_full_for(result):
                self._changed.wait()
            self._held[result.number] = result
            self._changed.notify_all()

    def _is_full_for(self, result: WindowResult) -> bool:
        return len(self._held) >= self._places and result.number != self._next and not self._abandoned

    def take(self, timeout: float) -> WindowResult | None:
        """The next result; None where it does not come within ``timeout`` seconds."""
        end = time.monotonic() + timeout
        with self._changed:
            while self._next not in self._held:
                if (left := end - time.monotonic()) <= 0:
                    return None
                self._changed.wait(left)
            result = self._held.pop(self._next)
            self._next += 1
            self._changed.notify_all()
            return result

    def abandon(self) -> None:
        """Nobody takes results any more: keep no thread waiting."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is held."""
        with self._changed:
            return not self._held
