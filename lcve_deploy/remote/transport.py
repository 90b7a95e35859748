"""The interface of both transports (gRPC and HTTP), and checks that they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact.model_spec import request_spec
from lcve_deploy.artifact.names import OUTPUT
from lcve_deploy.clips import Binding
from lcve_deploy.errors import SessionError
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.packing import pack
from lcve_deploy.protocol.timing import SERVER_MICROSECONDS
from lcve_deploy.remote.limits import BYTES_PER_LOGIT

__all__ = ["LogitsReply", "Request", "Transport", "check_outputs", "countdown", "logits_from_bytes", "stated_seconds"]

_MIN_SECONDS: Final = 0.001
"""Minimum timeout of a call: libraries reject a timeout of 0 or take it for no timeout."""

_MAX_MICROSECONDS: Final = 2**53

Values = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """Clips of one request.

    Args:
        values: uint8 ``[batch, N, L]`` or ``[batch, T, H, W, C]``, contiguous; or packed clips ``[bytes]``.
        clips: number of clips.
        binding: binding that the clips were encrypted for.
    """

    values: Values
    clips: int
    binding: Binding

    @classmethod
    def of(cls, values: npt.NDArray[Any], binding: Binding, *, pad: int = 1) -> Self:
        """Return a request with clips, uint8 ``[batch, ...]`` or records ``[batch]``, which are packed and padded.

        Raises:
            ValueError: the clips cannot be packed.
        """
        if binding.packed:
            sent = np.frombuffer(pack(values, binding.geometry, pad=pad), np.uint8)
        else:
            sent = np.ascontiguousarray(values)
        return cls(values=sent, clips=len(values), binding=binding)

    @property
    def input_name(self) -> str:
        """Name of the input."""
        return request_spec(self.binding.scheme, self.binding.geometry, self.binding.layout).name


@dataclass(frozen=True, kw_only=True, eq=False)
class LogitsReply:
    """Output of one request.

    Args:
        logits: float32 ``[batch, ...]``.
        model, version: what made them, as stated by the server.
        server_seconds: time in the server, as stated by it; None if it states none.
        sent_bytes: bytes of the body of the request, or of its message; 0 if they are not counted.
    """

    logits: Logits
    model: str
    version: str
    server_seconds: float | None = None
    sent_bytes: int = 0


class Transport(Protocol):
    """A connection to one endpoint. Threads may share it."""

    def describe(self, seconds: float) -> tuple[Any, Any]:
        """Fetch ``ModelMetadataResponse`` and ``ModelConfig`` (protobuf).

        Raises:
            LcveError: the server could not be reached or reported an error.
        """

    def infer(self, request: Request, *, output: ModelOutput, seconds: float) -> LogitsReply:
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


def check_outputs(
    outputs: Sequence[tuple[object, object, object]], shape: tuple[int, ...], endpoint: str, *, name: str = OUTPUT
) -> None:
    """Check that a response describes one output: the expected one.

    Args:
        outputs: stated name, datatype and shape of each output.
        shape: expected shape, ``[batch, ...]``.
        endpoint: ``host:port``, for the error.
        name: expected name.

    Raises:
        SessionError: the response describes anything else.
    """
    expected = [(name, "FP32", list(shape))]
    if outputs != expected:
        raise SessionError(f"{endpoint} returned {str(outputs)[:200]}, expected {expected}")


def stated_seconds(parameters: Mapping[str, Any], endpoint: str) -> float | None:
    """Return the time in the server that an answer states, or None if it states none.

    Args:
        parameters: parameters of the answer, as plain values.
        endpoint: ``host:port``, for the error.

    Raises:
        SessionError: it is not a number of microseconds.
    """
    stated = parameters.get(SERVER_MICROSECONDS)
    if stated is None:
        return None
    if type(stated) is not int or not 0 <= stated <= _MAX_MICROSECONDS:
        raise SessionError(
            f"{endpoint} answered with an invalid parameter {SERVER_MICROSECONDS}: expected a whole number of "
            f"microseconds from 0, received {stated!r:.40}",
            hint="tell the operator: a server that does not measure its time leaves the parameter out",
        )
    return stated / 1e6


def logits_from_bytes(data: bytes, shape: tuple[int, ...], endpoint: str) -> Logits:
    """Return the logits in little-endian float32.

    Raises:
        SessionError: another number of bytes than the shape has.
    """
    size = BYTES_PER_LOGIT * prod(shape)
    if len(data) != size:
        raise SessionError(f"{endpoint} returned {len(data)} bytes of logits, expected {size}")
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)
