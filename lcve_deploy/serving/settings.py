"""Settings of a server, chosen by its operator."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lcve_deploy.runtime import SessionOptions
from lcve_deploy.serving.hosts import is_local_host

__all__ = [
    "Batching",
    "Limits",
    "ModelSource",
    "SealingSettings",
    "ServerSettings",
    "SharedMemory",
    "TlsFiles",
    "WebAccess",
]

_MEBIBYTE: Final = 2**20
_HOST_TEXT: Final = r"(?:\[[0-9a-f:.]+\]|[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)"
_HOST_NAME: Final = re.compile(_HOST_TEXT)
_ORIGIN: Final = re.compile(rf"(?P<scheme>[a-z][a-z0-9+.-]*)://{_HOST_TEXT}(?::(?P<port>\d{{1,5}}))?")
_DEFAULT_PORTS: Final = (("http", "80"), ("https", "443"))


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """A model to serve.

    Args:
        name: model name, as clients see it.
        folder: server folder, or folder of server folders that are named by version numbers.
    """

    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Batching:
    """Dynamic batching of requests.

    Args:
        max_batch: maximum clips of one run, and of one request; an engine's profile may allow fewer.
        delay: seconds that a clip may wait for others to share its run, even if an instance is free.
        max_waiting: maximum clips of a model that wait for an instance; further requests are refused.
        instances: concurrent runs of a model.

    Raises:
        ValueError: a value is out of range, or the queue is shorter than one batch.
    """

    max_batch: int = 8
    delay: float = 0.0
    max_waiting: int = 64
    instances: int = 1

    def __post_init__(self) -> None:
        if min(self.max_batch, self.instances) < 1 or self.delay < 0 or self.max_waiting < self.max_batch:
            raise ValueError(
                "expected a queue of at least one batch, at least one clip and instance, and a delay of 0 or more, "
                f"received {self}"
            )


@dataclass(frozen=True, kw_only=True)
class SharedMemory:
    """Which shared memory objects clients may register.

    Args:
        prefix: start of the names of these objects; that of ``RemoteSession`` by default.
        users: user ids that may own an object, in addition to the server's own.
    """

    prefix: str = "lcve_"
    users: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on the memory and time that clients can use.

    Args:
        request_bytes: maximum bytes of one request, after decompression.
        json_bytes: maximum bytes of JSON in a request; JSON tensors use many times the memory of binary ones.
        requests: maximum requests that are received, queued or answered at the same time, over all models.
        connections: maximum concurrent HTTP connections.
        read_seconds: seconds until a request must have arrived completely.
        rate: maximum requests per second and client (name of a token, or address); 0 for no limit.
        shared_memory: shared memory objects that clients on this machine may register; None for none.
    """

    request_bytes: int = 64 * _MEBIBYTE
    json_bytes: int = 16 * _MEBIBYTE
    requests: int = 128
    connections: int = 512
    read_seconds: float = 30.0
    rate: float = 0.0
    shared_memory: SharedMemory | None = None


@dataclass(frozen=True, kw_only=True)
class WebAccess:
    """Web pages and names of the server that requests may come from and go to.

    Args:
        origins: origins of web pages, as browsers write them: ``https://app.example`` or ``http://localhost:3000``.
        hosts: names of the server, without a port, in addition to loopback ones.

    Raises:
        ValueError: not an origin, or not a name.
    """

    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            match = _ORIGIN.fullmatch(origin)
            if match is None or (match["scheme"], match["port"]) in _DEFAULT_PORTS:
                raise ValueError(
                    "expected an origin as browsers write it, such as https://app.example or http://localhost:3000, in "
                    f"lower case, without a default port and a slash at the end, received {origin!r}"
                )
        for host in self.hosts:
            if not _HOST_NAME.fullmatch(host):
                raise ValueError(f"expected a host name in lower case without a port, received {host!r}")


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files for TLS.

    Args:
        certificate: certificate of the server.
        private_key: private key of the certificate, not encrypted.
        client_ca: authority that must have issued the certificates of clients; None for no client certificates.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, kw_only=True)
class SealingSettings:
    """How sealed requests are opened.

    Args:
        key_files: private sealing keys: files, or folders with files that end in ``.key``; one key, or two while one
            takes over from the other.
        required: whether requests that are not sealed are refused.
        window: seconds before or after now at which a request may have been sealed.
    """

    key_files: tuple[Path, ...]
    required: bool = False
    window: float = 300.0


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Configuration of a server.

    Args:
        sources: models to serve.
        host: address to listen on.
        http_port, grpc_port, metrics_port: ports; 0 lets the system choose, None turns the protocol off.
        session: options for every model: engine, provider, threads, pinned signing key, keys in memory. Files are
            never mapped.
        batching: dynamic batching, for each model.
        limits: limits on the resources that clients can use.
        versions: number of versions of a model to serve, the highest ones.
        poll: seconds between checks of the model folders and their keys; 0 turns polling off.
        grace: seconds to answer accepted requests after the server is told to stop.
        token_file: names and tokens of clients; None accepts every client that can connect.
        web: web pages that may send requests, and names of the server.
        tls: PEM files; None for plain connections.
        sealing: keys for sealed requests; None opens none.
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
    web: WebAccess = field(default_factory=WebAccess)
    tls: TlsFiles | None = None
    sealing: SealingSettings | None = None

    @property
    def is_local(self) -> bool:
        """Whether the host is a loopback address or a name of one, so that only this machine can connect."""
        return is_local_host(self.host)
