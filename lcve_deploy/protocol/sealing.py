"""Name the tensor of sealed requests and answers, and the parameter by which a server offers to open them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["SEALED", "SEALING", "Offer"]

SEALED: Final = "sealed"
"""Name of the input with a sealed request, and of the output with its answer; UINT8, ``[bytes]``."""
SEALING: Final = "lcve_sealing"
"""Parameter of a model's configuration with an ``Offer``; a server that opens nothing does not have it."""


class Offer(StrEnum):
    """What a server does with sealed requests."""

    ACCEPTED = "accepted"
    REQUIRED = "required"
    """Requests that are not sealed are refused."""
