"""Report the progress of long operations to the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "silent", "step"]


class Progress(Protocol):
    """Callback for progress."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Receive that ``done`` of ``total`` steps of ``stage`` are done; ``done`` is 0 when a stage starts."""


def silent(stage: str, done: int, total: int) -> None:
    """Ignore progress."""


@contextmanager
def step(progress: Progress, stage: str) -> Iterator[Callable[[int, int], None]]:
    """Report the start of a stage, and its end after the block unless the block raises.

    Yields:
        A function that reports ``done`` of ``total`` parts within the stage.
    """
    progress(stage, 0, 1)
    yield lambda done, total: progress(stage, min(done, total - 1), total)
    progress(stage, 1, 1)
