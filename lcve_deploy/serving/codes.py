"""Status codes of errors on the wire: one table for gRPC and HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    ForbiddenError,
    LcveError,
    MismatchError,
    RateError,
    RequestError,
    SealingError,
    TooLargeError,
    UnavailableError,
    UnknownKeyError,
    UnknownModelError,
)
from lcve_deploy.protocol.errors import UNKNOWN_KEY

__all__ = ["Code", "client_message", "code_of", "name_of", "retry_seconds"]


@dataclass(frozen=True, kw_only=True)
class Code:
    """A status on both protocols: the name of a gRPC status code, and an HTTP status."""

    grpc: str
    http: int


_RETRY_SECONDS: Final = 1.0
_MAX_RETRY_SECONDS: Final = 300.0

_INTERNAL: Final = Code(grpc="INTERNAL", http=500)

# The first matching class counts, so subclasses precede their base classes.
_CODES: Final[tuple[tuple[type[LcveError], Code], ...]] = (
    (UnknownModelError, Code(grpc="NOT_FOUND", http=404)),
    (UnknownKeyError, Code(grpc="NOT_FOUND", http=404)),
    (TooLargeError, Code(grpc="RESOURCE_EXHAUSTED", http=413)),
    (RequestError, Code(grpc="INVALID_ARGUMENT", http=400)),
    (SealingError, Code(grpc="INVALID_ARGUMENT", http=400)),
    (MismatchError, Code(grpc="INVALID_ARGUMENT", http=400)),
    (ForbiddenError, Code(grpc="PERMISSION_DENIED", http=403)),
    (DeniedError, Code(grpc="UNAUTHENTICATED", http=401)),
    (RateError, Code(grpc="RESOURCE_EXHAUSTED", http=429)),
    (UnavailableError, Code(grpc="UNAVAILABLE", http=503)),
    (DeadlineError, Code(grpc="DEADLINE_EXCEEDED", http=504)),
)


def code_of(error: BaseException) -> Code:
    """Return the status of an error; internal unless the table lists its class."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), _INTERNAL)


def name_of(error: BaseException) -> str:
    """Return the name of an error whose status another kind of error has too; empty for all others."""
    return UNKNOWN_KEY if isinstance(error, UnknownKeyError) else ""


def client_message(error: BaseException) -> str:
    """Return the error message for a client; unexpected errors reveal no details of the server."""
    if not isinstance(error, LcveError):
        return "internal server error; the server's log has the details"
    return f"{error} ({error.hint})" if error.hint else str(error)


def retry_seconds(error: BaseException) -> float | None:
    """Return the seconds after which a client may send a request again; None if that would not help."""
    if not isinstance(error, UnavailableError):
        return None
    return min(_RETRY_SECONDS if error.retry_after is None else error.retry_after, _MAX_RETRY_SECONDS)
