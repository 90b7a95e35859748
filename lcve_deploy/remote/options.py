"""How a server is asked. Nothing here is secret: a token is named by where it is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["TOKEN_VARIABLE", "RemoteOptions"]

TOKEN_VARIABLE: Final = "LCVE_TOKEN"
"""The environment variable that holds a token, where no file does."""


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Options of a session with servers. They can be pickled, as no secret is among them.

    Args:
        deadline: seconds for a request, all its retries included; above 0.
        retries: how often a request is sent again, to another endpoint if there is one; 0 or more. Only
            what may pass is sent again: a server that is away, full or not ready.
        pause: seconds before a request goes to the same endpoint again; doubled each time, with jitter.
        longest_pause: seconds; what the doubling ends at.
        rest: seconds that a failing endpoint is passed over for others.
        token_file: file with a bearer token; by default the environment variable ``LCVE_TOKEN``, where it is set.
        tls_ca: root certificates, PEM; by default those of the system for HTTPS, and those that come with gRPC.
        tls_cert: the client's certificate, PEM, for mutual TLS; with ``tls_key``.
        tls_key: its private key, PEM, without a passphrase.
        shared_memory: hand clips over in shared memory, where an endpoint is on this machine and speaks gRPC.

    Raises:
        ValueError: a value outside its range, or one of certificate and key without the other.
    """

    deadline: float = 60.0
    retries: int = 4
    pause: float = 0.25
    longest_pause: float = 5.0
    rest: float = 10.0
    token_file: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    shared_memory: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.deadline < math.inf:
            raise ValueError(f"expected a deadline above 0 seconds, received {self.deadline}")
        if self.retries < 0 or min(self.pause, self.longest_pause, self.rest) < 0:
            raise ValueError("expected retries, pauses and rest of 0 or more")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("a client certificate and its key are given together, or not at all")

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """Those that are named."""
        return tuple(path for path in (self.tls_ca, self.tls_cert, self.tls_key) if path is not None)
