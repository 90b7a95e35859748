"""How much a command prints: ``--quiet``, normal, or ``--verbose``."""

from __future__ import annotations

from contextvars import ContextVar
from enum import IntEnum
from typing import Final

__all__ = ["VERBOSITY", "Verbosity", "is_quiet", "is_verbose"]


class Verbosity(IntEnum):
    """Levels of output, with the same meaning for every command."""

    QUIET = 0
    """Errors, and results on standard output."""
    NORMAL = 1
    """Also progress, notes and warnings."""
    VERBOSE = 2
    """Also the time and memory that the command took, and tracebacks of errors."""


VERBOSITY: Final = ContextVar("verbosity", default=Verbosity.NORMAL)
"""Set by every command before it starts."""


def is_quiet() -> bool:
    """Return whether only errors and results are shown."""
    return VERBOSITY.get() is Verbosity.QUIET


def is_verbose() -> bool:
    """Return whether timings and tracebacks are shown."""
    return VERBOSITY.get() is Verbosity.VERBOSE
