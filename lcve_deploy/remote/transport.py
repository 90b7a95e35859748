"""What both ways to a server give: the model's description, and answers to requests."""

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
"""Bytes: logits of 41 thousand clips with 400 classes."""
_MIN_SECONDS: Final = 0.001
"""Seconds that a call gets at least: libraries refuse a time that is over, or take it for none."""

Values = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Clips of one request.

    Args:
        values: uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``, contiguous.
        binding: what they were encrypted for.
    """

    values: Values
    binding: Binding


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitsReply:
    """Logits float32 ``[batch, classes]``, and the model and version that made them, as the server says."""

    logits: Logits
    model: str
    version: str


class Transport(Protocol):
    """A way to one endpoint. Threads may share it."""

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """``ModelMetadataResponse`` and ``ModelConfig`` (protobuf).

        Raises:
            LcveError: whatever the server, or the way to it, answered instead.
        """

    def infer(self, request: Request, *, classes: int, seconds: float) -> LogitsReply:
        """Answer clips, of which the server takes as many at once.

        Raises:
            LcveError: whatever the server, or the way to it, answered instead.
            SessionError: an answer that is not logits of these clips.
        """

    def forget(self) -> None:
        """The server failed, and may have been started anew: what it was told before, it may not know."""

    def close(self) -> None:
        """Give everything back. Requests under way may fail."""


def countdown(seconds: float) -> Callable[[], float]:
    """What is left of some seconds, from now on; never nothing."""
    end = time.monotonic() + seconds
    return lambda: max(end - time.monotonic(), _MIN_SECONDS)


def read_logits(
    result: Any, outputs: list[tuple[str, str, list[int]]], shape: tuple[int, int], endpoint: str
) -> Logits:
    """The logits of an answer, which nobody has to believe before they are checked.

    Args:
        result: ``InferResult`` of tritonclient.
        outputs: name, datatype and shape of each output that it claims.
        shape: ``[batch, classes]`` of the logits that were asked for.
        endpoint: ``host:port``.

    Raises:
        SessionError: anything but these logits.
    """
    expected = [(OUTPUT, "FP32", list(shape))]
    if outputs != expected:
        raise SessionError(f"{endpoint} answered {str(outputs)[:200]}, expected {expected}")
    try:
        logits = result.as_numpy(OUTPUT)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise SessionError(f"{endpoint} answered logits that cannot be read: {str(error)[:200]}") from None
    if not isinstance(logits, np.ndarray) or logits.dtype != np.float32 or logits.shape != shape:
        raise SessionError(f"{endpoint} answered no float32 logits {list(shape)}")
    return logits
