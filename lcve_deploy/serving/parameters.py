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
    """Return the slice of shared memory that the parameters of a tensor name; None if they name none.

    Raises:
        RequestError: the size is missing, or the size or offset is not a non-negative integer.
    """
    if REGION not in parameters:
        return None
    return Slice(
        region=str(parameters[REGION]),
        offset=require_int(parameters.get(OFFSET, 0), OFFSET),
        size=require_int(parameters.get(BYTE_SIZE), BYTE_SIZE),
    )


def timeout_from(parameters: Mapping[str, Any]) -> float | None:
    """Return the parameter ``timeout`` (microseconds) in seconds; None if it is 0 or missing: no limit.

    Raises:
        RequestError: the timeout is not a non-negative integer.
    """
    microseconds = require_int(parameters.get("timeout", 0), "timeout")
    return microseconds / 1e6 or None


def output_from(name: str, parameters: Mapping[str, Any], *, binary: bool) -> RequestedOutput:
    """Return a requested output with its parameters.

    Args:
        name: output name.
        parameters: parameters of the output.
        binary: whether to return raw bytes rather than JSON. HTTP only.

    Raises:
        RequestError: the client requests classification, which only the key holder can do, or the shared memory
            slice is invalid.
    """
    if parameters.get(_CLASSES):
        raise RequestError(
            "classification is not supported: the order of the logits is the key holder's secret",
            hint="request the logits, and read them with: lcve read",
        )
    return RequestedOutput(name=name, destination=slice_from(parameters), binary=binary)


def require_int(value: Any, what: str) -> int:
    """Return a value of JSON or of a parameter that must be an integer from 0 to 2**63 - 1.

    Args:
        value: value as received.
        what: name of the value, for the error.

    Raises:
        RequestError: the value is not such an integer.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise RequestError(f"expected a non-negative integer for {what}, received {str(value)[:50]!r}")
    return value
