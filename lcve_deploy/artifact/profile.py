"""The batch sizes that an engine is made for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Profile"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Batch sizes that a TensorRT engine is built for.

    Raises:
        ValueError: not 1 ≤ minimum ≤ optimum ≤ maximum.
    """

    minimum: int = 1
    optimum: int = 1
    maximum: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise ValueError(f"expected batch sizes 1 <= minimum <= optimum <= maximum, received {self}")

    def __str__(self) -> str:
        return f"{self.minimum}:{self.optimum}:{self.maximum}"
