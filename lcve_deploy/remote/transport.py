"""The interface of both transports (gRPC and HTTP), and checks that they share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.names import OUTPUT
from lcve_deploy.clips import Binding
from lcve_deploy.errors import SessionError

__all__ = ["MAX_RESPONSE_BYTES", "LogitsReply", "Request", "Transport", "countdown", "read_logits"]

MAX_RESPONSE_BYTES: Final = 2**26
"""Maximum bytes of a response: logits of 41,000 clips with 400 classes."""
_MIN_SECONDS: Final = 0.001
"""Minimum timeout of a call: libraries reject a timeout of 0 or take it for no timeout."""

Values = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Clips of one request.

    Args:
        values: uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``, contiguous.
        binding: binding that the clips were encrypted for.
    """

    values: Values
    binding: Binding


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitsReply:
    """Logits, float32 ``[batch, classes]``, and the model and version that made them, as stated by the server."""

    logits: Logits
    model: str
    version: str


class Transport(Protocol):
    """A connection to one endpoint. Threads may share it."""

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """Fetch ``ModelMetadataResponse`` and ``ModelConfig`` (protobuf).

        Raises:
            LcveError: the server could not be reached or reported an error.
        """

    def infer(self, request: Request, *, classes: int, seconds: float) -> LogitsReply:
        """Run one batch, no larger than the server's maximum.

        Raises:
            LcveError: the server could not be reached or reported an error.
            SessionError: the response is not the logits of these clips.
        """

    def forget(self) -> None:
        """Drop all state shared with the server. Called after a failure: the server may have restarted."""

    def close(self) -> None:
        """Release all resources. Running requests may fail."""


def countdown(seconds: float) -> Callable[[], float]:
    """Start a countdown. The returned function gives the remaining seconds, never less than a small minimum."""
    end = time.monotonic() + seconds
    return lambda: max(end - time.monotonic(), _MIN_SECONDS)


def read_logits(
    result: Any, outputs: list[tuple[str, str, list[int]]], shape: tuple[int, int], endpoint: str
) -> Logits:
    """Check a response and return its logits.

    Args:
        result: ``InferResult`` of tritonclient.
        outputs: stated name, datatype and shape of each output.
        shape: expected ``[batch, classes]``.
        endpoint: ``host:port``.

    Raises:
        SessionError: the response does not contain these logits.
    """
    expected = [(OUTPUT, "FP32", list(shape))]
    if outputs != expected:
        raise SessionError(f"{endpoint} returned {str(outputs)[:200]}, expected {expected}")
    try:
        logits = result.as_numpy(OUTPUT)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise SessionError(f"{endpoint} returned logits that cannot be read: {str(error)[:200]}") from None
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.shape != shape:
        raise SessionError(f"{endpoint} did not return float32 logits of shape {list(shape)}")
    return logits
