"""Progress of long work, reported to a caller that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Progress", "silent", "step"]


class Progress(Protocol):
    """Receive every step of a stage."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` are done; 0 announces the stage."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def step(progress: Progress, stage: str) -> Iterator[Callable[[int, int], None]]:
    """Announce a stage, and report it as done at the end of the block, unless the block raises.

    Yields:
        A function that reports ``done`` of ``total`` parts within the stage.
    """
    progress(stage, 0, 1)
    yield lambda done, total: progress(stage, min(done, total - 1), total)
    progress(stage, 1, 1)
