"""Options of a session with servers. None is secret: a token is given by its location."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.packing import require_pad
from lcve_deploy.sealing import SealingPublicKey

__all__ = ["TOKEN_VARIABLE", "RemoteOptions"]

TOKEN_VARIABLE: Final = "LCVE_TOKEN"
"""Environment variable with the token if no token file is given."""


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Options of a session with servers. Picklable, as they contain no secret.

    Args:
        deadline: seconds for a request, including all retries; above 0.
        retries: maximum retries of a request, on another endpoint if possible; 0 or more. Only transient failures
            are retried: a server that is unreachable, overloaded or not ready.
        pause: seconds before the first retry on the same endpoint; doubled each time, with jitter.
        max_pause: maximum seconds between retries.
        rest: seconds that a failing endpoint is skipped in favor of others.
        token_file: file with a bearer token; by default the environment variable ``LCVE_TOKEN``, if set.
        tls_ca: root certificates, PEM; by default the system's for HTTPS, and gRPC's own for gRPC.
        tls_cert: client certificate, PEM, for mutual TLS; needs ``tls_key``.
        tls_key: private key of ``tls_cert``, PEM, without a passphrase.
        shared_memory: pass clips in shared memory to gRPC endpoints on this machine.
        seal_to: public key of the servers, to which requests are sealed; by default they are not sealed.
        pad: in the scheme ``lcve-dct-1``, the bytes of every clip are padded to a multiple of this number, which hides
            how much is in it; by default they are not padded.

    Raises:
        ValueError: a value is out of range, or only one of certificate and key is given.
    """

    deadline: float = 60.0
    retries: int = 4
    pause: float = 0.25
    max_pause: float = 5.0
    rest: float = 10.0
    token_file: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    shared_memory: bool = False
    seal_to: SealingPublicKey | None = None
    pad: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.deadline < math.inf:
            raise ValueError(f"expected a deadline above 0 seconds, received {self.deadline}")
        if self.retries < 0 or min(self.pause, self.max_pause, self.rest) < 0:
            raise ValueError("expected retries, pauses and rest of 0 or more")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("expected a client certificate and its key, received only one of them")
        if self.shared_memory and self.seal_to is not None:
            raise ValueError("expected shared memory or a key to seal to, received both: sealed requests are sent")
        require_pad(self.pad)

    @property
    def tls_files(self) -> tuple[Path, ...]:
        """The TLS files that are set."""
        return tuple(path for path in (self.tls_ca, self.tls_cert, self.tls_key) if path is not None)
