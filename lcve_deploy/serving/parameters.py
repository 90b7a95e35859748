"""Parameters of inference requests that mean the same over gRPC and HTTP.

Source: Open Inference Protocol v2, and its extensions for classification and system shared memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lcve_deploy.errors import RequestError
from lcve_deploy.serving.inference import RequestedOutput
from lcve_deploy.serving.shared_memory import Slice

__all__ = ["BYTE_SIZE", "OFFSET", "REGION", "output_from", "require_int", "slice_from", "timeout_from"]

REGION: Final = "shared_memory_region"
BYTE_SIZE: Final = "shared_memory_byte_size"
OFFSET: Final = "shared_memory_offset"
_CLASSES: Final = "classification"


def slice_from(parameters: Mapping[str, Any]) -> Slice | None:
    """The part of shared memory that parameters name; None where they name none.

    Raises:
        RequestError: no size, or numbers that are none.
    """
    if REGION not in parameters:
        return None
    return Slice(
        region=str(parameters[REGION]),
        offset=require_int(parameters.get(OFFSET, 0), OFFSET),
        size=require_int(parameters.get(BYTE_SIZE), BYTE_SIZE),
    )


def timeout_from(parameters: Mapping[str, Any]) -> float | None:
    """Seconds of the parameter ``timeout``, which is in microseconds; None for any time."""
    microseconds = require_int(parameters.get("timeout", 0), "timeout")
    return microseconds / 1e6 or None


def output_from(name: str, parameters: Mapping[str, Any], *, binary: bool) -> RequestedOutput:
    """An output by its parameters.

    Raises:
        RequestError: classes, which only the holder of the key can read, or a part of shared memory that is none.
    """
    if parameters.get(_CLASSES):
        raise RequestError(
            "classes cannot be had here: the order of the logits is the key holder's secret",
            hint="ask for the logits, and read them with: lcve read",
        )
    return RequestedOutput(name=name, destination=slice_from(parameters), binary=binary)


def require_int(value: Any, what: str) -> int:
    """A number of JSON or of a parameter that must be whole and not negative.

    Raises:
        RequestError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise RequestError(f"expected a whole number as {what}, received {str(value)[:50]!r}")
    return value
