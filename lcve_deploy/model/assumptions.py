"""Facts that an export assumed because the checkpoint does not contain them, as written to ``client.json``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Assumption", "Fact"]


class Fact(StrEnum):
    """Kind of an assumed fact."""

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
    """A fact that neither the checkpoint nor an option stated, and the value that the export assumed.

    Args:
        fact: the assumed fact.
        value: the assumed value and the reason, as text.
        option: the option of ``lcve export`` that sets it.
    """

    fact: Fact
    value: str
    option: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.value} ({self.option})"
