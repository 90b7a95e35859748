"""Bounded queues between threads: waiting windows, and results restored to the order of their windows."""

from __future__ import annotations

import time
from collections import deque
from threading import Condition
from typing import Generic, TypeVar

from lcve_deploy.verbs.watch.results import WindowResult

__all__ = ["BoundedQueue", "OrderedResults"]

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """A queue of limited size that can be closed.

    Args:
        size: maximum number of items, at least 1.
        drop_oldest: if the queue is full, drop its oldest item; otherwise wait until there is space.
    """

    def __init__(self, size: int, *, drop_oldest: bool) -> None:
        self._size, self._drop_oldest = size, drop_oldest
        self._items, self._closed, self._changed = deque[T](), False, Condition()

    def put(self, item: T) -> T | None:
        """Add an item. Return the item that was dropped, if any: the oldest, or this one if the queue is closed."""
        with self._changed:
            while not self._drop_oldest and not self._closed and len(self._items) >= self._size:
                self._changed.wait()
            if self._closed:
                return item
            dropped = self._items.popleft() if len(self._items) >= self._size else None
            self._items.append(item)
            self._changed.notify_all()
            return dropped

    def take(self) -> T | None:
        """Wait for an item, and remove and return the oldest. Return None if the queue is closed and empty."""
        with self._changed:
            while not self._items and not self._closed:
                self._changed.wait()
            item = self._items.popleft() if self._items else None
            self._changed.notify_all()
            return item

    def close(self) -> None:
        """Accept no more items; those in the queue can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[T]:
        """Close the queue, and remove and return all items."""
        with self._changed:
            self._closed = True
            items = list(self._items)
            self._items.clear()
            self._changed.notify_all()
            return items


class OrderedResults:
    """Results that arrive in any order, and are returned in the order of their windows.

    A full buffer accepts only the next result to return, so memory stays bounded even if nobody takes results. The
    thread with that result never waits, so there is no deadlock.

    Args:
        size: maximum number of other results, at least 1.
    """

    def __init__(self, size: int) -> None:
        self._size, self._held, self._next = size, dict[int, WindowResult](), 0
        self._abandoned, self._changed = False, Condition()

    def put(self, result: WindowResult, *, wait: bool = True) -> None:
        """Add a result. If the buffer is full, wait for space; without ``wait``, exceed the size instead."""
        with self._changed:
            while wait and self._is_full_for(result):
                self._changed.wait()
            self._held[result.number] = result
            self._changed.notify_all()

    def _is_full_for(self, result: WindowResult) -> bool:
        return len(self._held) >= self._size and result.number != self._next and not self._abandoned

    def take(self, timeout: float) -> WindowResult | None:
        """Wait for the next result; return None if it does not arrive within ``timeout`` seconds."""
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
        """Declare that no more results will be taken: release all waiting threads."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    @property
    def is_empty(self) -> bool:
        """Whether there are no results."""
        with self._changed:
            return not self._held
