"""Map failures of a server or connection to errors of this package, with hints."""

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
    UnknownKeyError,
    UnknownModelError,
)
from lcve_deploy.protocol.errors import UNKNOWN_KEY
from lcve_deploy.remote.token import Token

__all__ = ["Fault", "grpc_fault", "http_fault", "shown"]

_MAX_CHARACTERS: Final = 300
"""Maximum characters of a server's message that are shown."""

_KINDS: Final[dict[type[LcveError], tuple[str, str]]] = {
    RequestError: ("refused the request", ""),
    UnknownKeyError: (
        "does not have the key",
        "ask the operator to install the key folder that was made with this key",
    ),
    UnknownModelError: ("does not have the model", "check the model name and version in the address"),
    TooLargeError: ("refused the request as too large", "send fewer clips at once, or raise the server's limit"),
    DeniedError: ("denied access", "check the token (--token-file or LCVE_TOKEN) and the certificates"),
    UnavailableError: (
        "is not available",
        "check that the server runs, that its port is reachable, and whether it requires TLS: grpcs://, https://",
    ),
    RateError: ("is rate-limiting requests", "send them more slowly"),
    DeadlineError: ("did not answer in time", "raise the deadline: --deadline"),
    SessionError: ("failed", "see the server's log"),
}
"""Description of the failure, which follows the endpoint, and hint."""

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
_MAX_DIGITS: Final = 15

_SIZES: Final = re.compile(r"larger than|too large|bytes", re.IGNORECASE)
"""gRPC has one status for too many bytes and for too many requests; only the message distinguishes them."""
_LIMIT_AT_START: Final = re.compile(r"SERVER: Received message larger", re.IGNORECASE)
"""gRPC itself refuses a message by a limit that a server sets once, when it starts."""
_OWN_LIMIT: Final = re.compile(
    r"CLIENT: Received message larger|Decompressed message larger|metadata size exceeds", re.IGNORECASE
)
_HANDSHAKE: Final = re.compile(r"CERTIFICATE|handshake failed|SSL_ERROR|alert", re.IGNORECASE)
"""gRPC reports UNAVAILABLE if either side rejects the other's certificate; only the message shows it."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One failure of a request.

    Args:
        kind: error class to raise.
        endpoint: ``host:port``.
        words: message of the server or the library.
        retry_after: seconds after which the server expects to accept the request; None if it does not say.
    """

    kind: type[LcveError]
    endpoint: str
    words: str = ""
    retry_after: float | None = None

    def error(self, token: Token, *, pad: int = 1) -> LcveError:
        """Return the error to raise, without the token and without control characters.

        Args:
            token: token of the session.
            pad: bytes that every clip was padded to a multiple of.
        """
        summary = _KINDS[self.kind][0]
        words = shown(token.hide(self.words))
        error = self.kind(f"{self.endpoint} {summary}{': ' if words else ''}{words}", hint=self._hint(pad))
        if isinstance(error, UnavailableError):
            error.retry_after = self.retry_after
        return error

    def _hint(self, pad: int) -> str:
        hint = _KINDS[self.kind][1]
        if self.kind is not TooLargeError:
            return hint
        if _LIMIT_AT_START.search(self.words):
            hint = (
                "send fewer clips at once, or restart the server: its limit for gRPC is that of its models at its start"
            )
        return f"clips are padded to multiples of {pad} bytes: pad them less (--pad), {hint}" if pad > 1 else hint


def shown(words: str, max_characters: int = _MAX_CHARACTERS) -> str:
    """Return the start of a server's message without control characters."""
    return "".join(c if c.isprintable() else " " for c in words[:max_characters]).strip()


def grpc_fault(status: str, words: str, endpoint: str, pushback: str = "", name: str = "") -> Fault:
    """Return the fault for a gRPC status such as ``UNAVAILABLE``.

    Args:
        status: name of the status.
        words: message of the status.
        endpoint: ``host:port``.
        pushback: milliseconds until a retry, as the server sent them.
        name: name of the error, as this package's server sends it with some.
    """
    kind = _named(_GRPC.get(status, SessionError), name)
    if kind is RateError and _OWN_LIMIT.search(words):
        kind = SessionError
    if kind is RateError and _SIZES.search(words):
        kind = TooLargeError
    if kind is UnavailableError and _HANDSHAKE.search(words):
        kind = DeniedError
    milliseconds = whole_number(pushback)
    retry_after = None if milliseconds is None else milliseconds / 1e3
    return Fault(kind=kind, endpoint=endpoint, words=words, retry_after=retry_after)


def http_fault(status: int, words: str, endpoint: str, retry_after: str = "", name: str = "") -> Fault:
    """Return the fault for an HTTP status other than 200.

    Redirects are faults and are not followed: the token is meant only for the server in the address.

    Args:
        status: HTTP status.
        words: message in the body.
        endpoint: ``host:port``.
        retry_after: header ``Retry-After`` in seconds; a date is ignored, as clocks differ.
        name: as for ``grpc_fault``.
    """
    kind = _named(_HTTP.get(status, SessionError if status >= _SERVER_FAILED else RequestError), name)
    return Fault(kind=kind, endpoint=endpoint, words=words or f"status {status}", retry_after=whole_number(retry_after))


def _named(kind: type[LcveError], name: str) -> type[LcveError]:
    return UnknownKeyError if kind is UnknownModelError and name == UNKNOWN_KEY else kind


def whole_number(text: str) -> int | None:
    """Return a number of few decimal digits, as a header has it; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else None
