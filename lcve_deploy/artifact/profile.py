"""Batch sizes that an engine is built for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Profile"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Optimisation profile of a TensorRT engine: its batch sizes, in clips.

    Args:
        minimum: smallest batch that the engine accepts.
        optimum: batch size that the engine is optimised for.
        maximum: largest batch that the engine accepts.

    Raises:
        ValueError: the sizes do not satisfy 1 ≤ minimum ≤ optimum ≤ maximum.
    """

    minimum: int = 1
    optimum: int = 1
    maximum: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise ValueError(f"expected batch sizes 1 <= minimum <= optimum <= maximum, received {self}")

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"
