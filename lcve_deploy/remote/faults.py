"""What a server, or the way to it, answers in place of logits: as one of our errors, with a hint."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    RateError,
    RequestError,
    SessionError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from lcve_deploy.remote.token import Token

__all__ = ["Fault", "grpc_fault", "http_fault"]

_MAX_CHARACTERS: Final = 300
"""Characters of a server's words that are shown."""

_KINDS: Final[dict[type[LcveError], tuple[str, str]]] = {
    RequestError: ("refused the request", ""),
    UnknownModelError: ("does not have the model", "check the model's name and version in the address"),
    TooLargeError: ("refused so many bytes", "send fewer clips at once, or raise the server's limit"),
    DeniedError: ("denied access", "check the token (--token-file or LCVE_TOKEN) and the certificates"),
    UnavailableError: (
        "is not available",
        "check that the server runs, that its port can be reached, and whether it wants TLS: grpcs://, https://",
    ),
    RateError: ("grants no more requests now", "send them more slowly"),
    DeadlineError: ("did not answer in time", "give it more time: --deadline"),
    SessionError: ("failed", "see the server's log"),
}
"""What is said of the server, and the hint."""

_GRPC: Final[dict[str, type[LcveError]]] = {
    "INVALID_ARGUMENT": RequestError,
    "FAILED_PRECONDITION": RequestError,
    "OUT_OF_RANGE": RequestError,
    "ALREADY_EXISTS": RequestError,
    "UNIMPLEMENTED": RequestError,
    "NOT_FOUND": UnknownModelError,
    "RESOURCE_EXHAUSTED": RateError,
    "UNAUTHENTICATED": DeniedError,
    "PERMISSION_DENIED": DeniedError,
    "UNAVAILABLE": UnavailableError,
    "ABORTED": UnavailableError,
    "CANCELLED": UnavailableError,
    "DEADLINE_EXCEEDED": DeadlineError,
}
_HTTP: Final[dict[int, type[LcveError]]] = {
    401: DeniedError,
    403: DeniedError,
    404: UnknownModelError,
    408: DeadlineError,
    413: TooLargeError,
    429: RateError,
    502: UnavailableError,
    503: UnavailableError,
    504: DeadlineError,
}
_SERVER_FAILED: Final = 500

_SIZES: Final = re.compile(r"larger than|too large|bytes", re.IGNORECASE)
"""gRPC has one status for too many bytes and for too many requests; only the words tell them apart."""
_OWN_LIMIT: Final = re.compile(r"CLIENT: Received message larger", re.IGNORECASE)
_HANDSHAKE: Final = re.compile(r"CERTIFICATE|handshake failed|SSL_ERROR|alert", re.IGNORECASE)
"""gRPC calls a server away whose certificate, or who refuses ours."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One failure.

    Args:
        kind: of the error to raise.
        endpoint: ``host:port``.
        words: of the server or the library.
    """

    kind: type[LcveError]
    endpoint: str
    words: str = ""

    def error(self, token: Token) -> LcveError:
        """The error, without the token and without what could move a terminal's cursor."""
        said, hint = _KINDS[self.kind]
        words = "".join(c if c.isprintable() else " " for c in token.hide(self.words)[:_MAX_CHARACTERS]).strip()
        return self.kind(f"{self.endpoint} {said}{': ' if words else ''}{words}", hint=hint)


def grpc_fault(status: str, words: str, endpoint: str) -> Fault:
    """Of a gRPC status, such as ``UNAVAILABLE``."""
    kind = _GRPC.get(status, SessionError)
    if kind is RateError and _SIZES.search(words):
        kind = SessionError if _OWN_LIMIT.search(words) else TooLargeError
    if kind is UnavailableError and _HANDSHAKE.search(words):
        kind = DeniedError
    return Fault(kind=kind, endpoint=endpoint, words=words)


def http_fault(status: int, words: str, endpoint: str) -> Fault:
    """Of an HTTP status that is not 200. Redirections are not followed: a token is for the server that was named."""
    kind = _HTTP.get(status, SessionError if status >= _SERVER_FAILED else RequestError)
    return Fault(kind=kind, endpoint=endpoint, words=words or f"status {status}")
