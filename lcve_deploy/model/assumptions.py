"""Facts that an export assumed because the checkpoint does not contain them, as written to ``client.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    QUANTISATION = "quantisation"


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """A fact that neither the checkpoint nor an option stated, and the value that the export assumed.

    Args:
        fact: the assumed fact.
        value: the assumed value and the reason, as text.
        option: the option of ``lcve export`` that sets it.
        arguments: options of ``lcve export`` and their values that state the same; empty if no option can, or if the
            model does not depend on it. Not written as part of the assumption.
    """

    fact: Fact
    value: str
    option: str
    arguments: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return f"{self.fact}: {self.value} ({self.option})"

    def to_json(self) -> dict[str, str]:
        """Return the fields that are written."""
        return {"fact": self.fact.value, "value": self.value, "option": self.option}
