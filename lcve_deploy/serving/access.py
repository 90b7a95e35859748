"""Who may ask, and how often: bearer tokens, and a rate for each client."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lcve_deploy.errors import DeniedError, RateError, RequestError
from lcve_deploy.files.reading import read_bounded

__all__ = ["Access", "TokenFileWarning", "read_tokens"]

_LINE: Final = re.compile(r"([A-Za-z0-9._@-]{1,100})[ \t]+(\S{16,1000})")
_SCHEME: Final = "bearer "
_MAX_CLIENTS: Final = 10_000


class TokenFileWarning(UserWarning):
    """A token file that other users of the machine can read."""


def read_tokens(path: Path) -> dict[bytes, str]:
    """Names of clients by the SHA-256 of their tokens; the tokens themselves are not kept.

    Args:
        path: a client's name and its token on each line, with white space between; lines that begin with # are not.

    Raises:
        RequestError: no token, a line that is not so, or a token that two clients have.
        OSError: the file cannot be read.
    """
    text = read_bounded(path, "a token file", RequestError).decode(errors="replace")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        warnings.warn(f"every user of this machine can read {path}; do: chmod 600", TokenFileWarning, stacklevel=2)
    tokens = dict[bytes, str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        digest = _digest(match[2]) if match else b""
        if match is None or digest in tokens:
            raise RequestError(
                f"line {number} of {path} is not a name and a token of at least 16 characters, or repeats a token",
                hint="make one with: echo camera-7 $(openssl rand -hex 32)",
            )
        tokens[digest] = match[1]
    if not tokens:
        raise RequestError(f"{path} has no token", hint="write a name and a token on each line")
    return tokens


class Access:
    """The gate of a server.

    Args:
        tokens: as of ``read_tokens``; None lets in everyone who can connect.
        rate: requests a second of one client, with bursts of a second's worth; 0 for any number.
    """

    def __init__(self, tokens: Mapping[bytes, str] | None, rate: float) -> None:
        self.tokens, self._rate = tokens, rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def authenticate(self, authorization: str | None, address: str) -> str:
        """The name of a client: that of its token, or its address if there are no tokens.

        Raises:
            DeniedError: no token, or a wrong one.
        """
        if self.tokens is None:
            return address
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise DeniedError("this server wants a token", hint="send the header authorization: Bearer TOKEN")
        digest = _digest(authorization[len(_SCHEME) :].strip())
        for known, name in self.tokens.items():
            if hmac.compare_digest(known, digest):
                return name
        raise DeniedError("the token is not known here", hint="ask the operator for one")

    def count_request(self, client: str) -> None:
        """Count a request of a client.

        Raises:
            RateError: more than the rate.
        """
        if not self._rate:
            return
        burst, now = max(1.0, self._rate), time.monotonic()
        remaining, updated = self._buckets.pop(client, (burst, now))
        remaining = min(burst, remaining + (now - updated) * self._rate)
        self._buckets[client] = (remaining - 1.0 if remaining >= 1.0 else remaining, now)
        while len(self._buckets) > _MAX_CLIENTS:
            self._buckets.popitem(last=False)
        if remaining < 1.0:
            raise RateError(f"more than {self._rate:g} requests a second", hint="send fewer, or ask the operator")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
