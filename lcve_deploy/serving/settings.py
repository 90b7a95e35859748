"""What an operator decides about a server."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lcve_deploy.runtime import SessionOptions

__all__ = ["Batching", "Limits", "ModelSource", "ServerSettings", "TlsFiles"]

_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model by its name: a server folder, or a folder of server folders that are named by version numbers."""

    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests share runs.

    Args:
        max_batch: clips of one run, and of one request; an engine's profile may allow fewer.
        delay: seconds that a clip may wait for others, while an instance is free.
        max_waiting: clips of a model that may wait for an instance; beyond, requests are refused.
        instances: runs of a model at the same time.

    Raises:
        ValueError: a queue that the largest request does not fit into.
    """

    max_batch: int = 8
    delay: float = 0.0
    max_waiting: int = 64
    instances: int = 1

    def __post_init__(self) -> None:
        if min(self.max_batch, self.instances) < 1 or self.delay < 0 or self.max_waiting < self.max_batch:
            raise ValueError(f"expected a queue of at least one batch of at least one clip, received {self}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What bounds the memory and time that clients can take.

    Args:
        request_bytes: of one request, as it is after decompression.
        json_bytes: of the JSON of a request; tensors in JSON take many times the memory of binary ones.
        requests: that are being received, wait or are being answered at the same time, over all models.
        connections: over HTTP at the same time.
        read_seconds: for a request to arrive as a whole.
        rate: requests a second of one client (a token's name, or an address); 0 for any number.
        shared_memory: whether clients on this machine may register regions.
    """

    request_bytes: int = 64 * _MEBIBYTE
    json_bytes: int = 16 * _MEBIBYTE
    requests: int = 128
    connections: int = 512
    read_seconds: float = 30.0
    rate: float = 0.0
    shared_memory: bool = False


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files of a server: its certificate and private key, and the authority of clients' certificates."""

    certificate: Path
    private_key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """All of it.

    Args:
        sources: the models.
        host: address to listen on.
        http_port, grpc_port, metrics_port: 0 lets the system choose; None does not listen.
        session: how every model is opened: engine, provider, threads, pin. No file is ever mapped.
        versions: how many of a model's versions are served, the highest ones.
        poll: seconds between looks at the folders; 0 never looks.
        grace: seconds for accepted requests to be answered once the server is told to stop.
        token_file: names and tokens of clients; None lets in everyone who can connect.
        tls: None for plain connections.
    """

    sources: tuple[ModelSource, ...]
    host: str = "127.0.0.1"
    http_port: int | None = 8000
    grpc_port: int | None = 8001
    metrics_port: int | None = 8002
    session: SessionOptions = field(default_factory=SessionOptions)
    batching: Batching = field(default_factory=Batching)
    limits: Limits = field(default_factory=Limits)
    versions: int = 1
    poll: float = 5.0
    grace: float = 30.0
    token_file: Path | None = None
    tls: TlsFiles | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
