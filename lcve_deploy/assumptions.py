"""Facts that a checkpoint does not contain and that the export assumed, as written in ``client.json``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Assumption", "Fact"]


class Fact(StrEnum):
    """What was assumed."""

    FAMILY = "family"
    WEIGHTS = "weights"
    POSITIONS = "positions"
    READOUT = "readout"
    HEADS = "heads"
    FRAMES = "frames"
    SIZE = "size"
    NORMALISATION = "normalisation"
    SAMPLING = "sampling"
    RESIZING = "resizing"
    PROBLEM_TYPE = "problem type"
    CLASS_NAMES = "class names"


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One fact that neither the checkpoint nor an option gave, and the value that was assumed.

    Args:
        fact: what was assumed.
        value: what it was taken to be, and why, for people to read.
        option: the option of ``lcve export`` that sets it.
    """

    fact: Fact
    value: str
    option: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.value} ({self.option})"
