"""Access control: bearer tokens, the keys that each may use, and a rate limit for each client."""

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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.errors import DeniedError, RateError, RequestError
from lcve_deploy.files.reading import read_bounded

__all__ = ["Access", "Client", "TokenFileWarning", "read_tokens"]

_LINE: Final = re.compile(r"([A-Za-z0-9._@-]{1,100})[ \t]+(\S{16,1000})((?:[ \t]+[0-9a-f]{32})*)")
_SCHEME: Final = "bearer "
_MAX_CLIENTS: Final = 10_000


@dataclass(frozen=True, kw_only=True)
class Client:
    """A client of the server.

    Args:
        name: name of its token, or its address if the server uses no tokens.
        keys: ids of the keys that it may use; None for all.
    """

    name: str
    keys: frozenset[str] | None = None


class TokenFileWarning(UserWarning):
    """A token file is readable by every user of the machine."""


def read_tokens(path: Path) -> dict[bytes, Client]:
    """Read a token file and return clients by the SHA-256 digest of their tokens.

    Tokens are not kept. Warns with ``TokenFileWarning`` if every user of the machine can read the file.

    Args:
        path: file with one client a line: name and token, and the ids of the keys that it may use, if not all, with
            white space between them. Empty lines and lines that begin with # are ignored.

    Raises:
        RequestError: the file contains no token, an invalid line, or the same token twice.
        OSError: the file cannot be read.
    """
    text = read_bounded(path, "a token file", RequestError).decode(errors="replace")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & stat.S_IROTH:
        warnings.warn(
            f"{path} is readable by every user of this machine; run: chmod 600 {path}", TokenFileWarning, stacklevel=2
        )
    tokens = dict[bytes, Client]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        digest = _digest(match[2]) if match else b""
        if match is None or digest in tokens:
            raise RequestError(
                f"line {number} of {path} is invalid: expected a name and a token of at least 16 characters that no "
                "other client has, and then only key ids of 32 lower-case hex digits",
                hint="create a line with: echo camera-7 $(openssl rand -hex 32)",
            )
        tokens[digest] = Client(name=match[1], keys=frozenset(match[3].split()) or None)
    if not tokens:
        raise RequestError(f"{path} contains no token", hint="write one client a line: its name and its token")
    return tokens


class Access:
    """Authenticate clients and limit their request rates.

    Args:
        tokens: clients by token digest, from ``read_tokens``; None accepts every client that can connect.
        rate: maximum requests per second and client, with bursts of up to one second's requests; 0 for no limit.
    """

    def __init__(self, tokens: Mapping[bytes, Client] | None, rate: float) -> None:
        self.tokens, self._rate = tokens, rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def replace_tokens(self, tokens: Mapping[bytes, Client]) -> None:
        """Accept these tokens only, from the next request on; rates are kept by client name."""
        self.tokens = tokens

    def authenticate(self, authorization: str | None, address: str) -> Client:
        """Return the client that a token belongs to, or one named by its address if the server uses no tokens.

        Args:
            authorization: value of the ``authorization`` header; None if the header is missing.
            address: network address of the client.

        Raises:
            DeniedError: the token is missing or unknown.
        """
        if self.tokens is None:
            return Client(name=address)
        if authorization is None or not authorization.lower().startswith(_SCHEME):
            raise DeniedError("this server requires a token", hint="send the header authorization: Bearer TOKEN")
        digest = _digest(authorization[len(_SCHEME) :].strip())
        for known, client in self.tokens.items():
            if hmac.compare_digest(known, digest):
                return client
        raise DeniedError("the token is unknown to this server", hint="ask the operator for a token")

    def count_request(self, client: str) -> None:
        """Count one request of a client against its rate limit (a token bucket).

        Raises:
            RateError: the client exceeded its rate.
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
            raise RateError(
                f"the rate limit of {self._rate:g} requests per second is exceeded",
                hint="send fewer requests, or ask the operator for a higher limit",
                retry_after=(1.0 - remaining) / self._rate,
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
