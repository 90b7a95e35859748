"""Progress of long work, for whoever wants to show it."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Told at every step of a stage."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of ``stage`` are done; 0 announces the stage."""


def silent(stage: str, done: int, total: int) -> None:
    """Show nothing."""
