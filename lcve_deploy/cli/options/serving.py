"""Options of the server: ports, access, sealing, batches, limits, and what it loads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import cloup

from lcve_deploy.cli.options.groups import value_from_options
from lcve_deploy.cli.options.types import ABOVE_ZERO, PATH, POSITIVE

if TYPE_CHECKING:
    from lcve_deploy.serving.settings import Batching, Limits, SealingSettings, TlsFiles, WebAccess

__all__ = [
    "AccessOptions",
    "ListeningOptions",
    "LoadingOptions",
    "SealingOptions",
    "access_options",
    "batching_options",
    "limits_options",
    "listening_options",
    "loading_options",
    "sealing_options",
]

_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, kw_only=True)
class ListeningOptions:
    """Address and ports of the server; None for a port that is not opened."""

    host: str
    http_port: int | None
    grpc_port: int | None
    metrics_port: int | None


@dataclass(frozen=True, kw_only=True)
class LoadingOptions:
    """Versions to serve, keys in memory, the time between checks for new ones, and the time to shut down."""

    versions: int
    max_keys: int
    poll: float
    grace: float


@dataclass(frozen=True, kw_only=True)
class SealingOptions:
    """Keys that open sealed requests, and whether all requests must be sealed."""

    open_with: tuple[Path, ...]
    sealed_only: bool
    seal_window: float

    def __post_init__(self) -> None:
        if self.sealed_only and not self.open_with:
            raise ValueError("--sealed-only needs --open-with")

    def settings(self) -> SealingSettings | None:
        """Return the settings of sealing; None opens nothing."""
        from lcve_deploy.serving.settings import SealingSettings

        if not self.open_with:
            return None
        return SealingSettings(key_files=self.open_with, required=self.sealed_only, window=self.seal_window)


@dataclass(frozen=True, kw_only=True)
class AccessOptions:
    """Tokens and TLS files; None for open access and plain connections."""

    tokens: Path | None
    web: WebAccess
    tls: TlsFiles | None


def _make_listening(*, host: str, http_port: int, grpc_port: int, metrics_port: int) -> ListeningOptions:
    http, grpc, metrics = (None if port < 0 else port for port in (http_port, grpc_port, metrics_port))
    return ListeningOptions(host=host, http_port=http, grpc_port=grpc, metrics_port=metrics)


def _make_batching(*, max_batch: int, queue_delay: float, max_queue: int, instances: int) -> Batching:
    from lcve_deploy.serving.settings import Batching

    if max_queue < max_batch:
        raise ValueError("--max-queue must be at least --max-batch")
    return Batching(max_batch=max_batch, delay=queue_delay / 1e3, max_waiting=max_queue, instances=instances)


def _make_limits(
    *,
    max_request_mib: int,
    max_requests: int,
    max_connections: int,
    read_timeout: float,
    rate: float,
    shared_memory: bool,
    shared_memory_prefix: str | None,
    shared_memory_user: tuple[int, ...],
) -> Limits:
    from lcve_deploy.serving.settings import Limits, SharedMemory

    if not shared_memory and (shared_memory_prefix is not None or shared_memory_user):
        raise ValueError("--shared-memory-prefix and --shared-memory-user need --shared-memory")
    prefix = SharedMemory().prefix if shared_memory_prefix is None else shared_memory_prefix

    return Limits(
        request_bytes=max_request_mib * _MEBIBYTE,
        requests=max_requests,
        connections=max_connections,
        read_seconds=read_timeout,
        rate=rate,
        shared_memory=SharedMemory(prefix=prefix, users=shared_memory_user) if shared_memory else None,
    )


def _make_access(
    *,
    tokens: Path | None,
    allow_origin: tuple[str, ...],
    allow_host: tuple[str, ...],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> AccessOptions:
    from lcve_deploy.serving.settings import TlsFiles, WebAccess

    if (tls_cert is None) != (tls_key is None) or (tls_client_ca is not None and tls_cert is None):
        raise ValueError("--tls-cert and --tls-key must be used together, and --tls-client-ca needs both")
    web = WebAccess(origins=allow_origin, hosts=allow_host)
    if tls_cert is None or tls_key is None:
        return AccessOptions(tokens=tokens, web=web, tls=None)
    tls = TlsFiles(certificate=tls_cert, private_key=tls_key, client_ca=tls_client_ca)
    return AccessOptions(tokens=tokens, web=web, tls=tls)


_PORT: Final = click.IntRange(-1, 65535)

_LISTENING: Final = cloup.option_group(
    "Listening",
    cloup.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on."),
    cloup.option(
        "--http-port", type=_PORT, default=8000, show_default=True, metavar="N", help="0: any free port; -1: none."
    ),
    cloup.option(
        "--grpc-port", type=_PORT, default=8001, show_default=True, metavar="N", help="0: any free port; -1: none."
    ),
    cloup.option(
        "--metrics-port",
        type=_PORT,
        default=8002,
        show_default=True,
        metavar="N",
        help="Health and Prometheus metrics, always plain HTTP. 0: any free port; -1: none.",
    ),
)
_ACCESS: Final = cloup.option_group(
    "Access",
    cloup.option(
        "--tokens", type=PATH, metavar="FILE", help="Names and tokens of clients, and the key ids that each may use."
    ),
    cloup.option(
        "--allow-origin",
        multiple=True,
        metavar="ORIGIN",
        help="Origin of web pages that may send requests; repeatable.  [default: none]",
    ),
    cloup.option(
        "--allow-host",
        multiple=True,
        metavar="NAME",
        help="Name of this server in requests, in addition to loopback ones; repeatable.",
    ),
    cloup.option("--tls-cert", type=PATH, metavar="PEM", help="Certificate of the server."),
    cloup.option("--tls-key", type=PATH, metavar="PEM", help="Private key of the certificate."),
    cloup.option("--tls-client-ca", type=PATH, metavar="PEM", help="Certificate authority of clients, for mutual TLS."),
)
_SEALING: Final = cloup.option_group(
    "Sealing",
    cloup.option(
        "--open-with",
        type=PATH,
        multiple=True,
        metavar="FILE",
        help="Private sealing key, or a folder with one or two *.key; may be repeated.",
    ),
    cloup.option("--sealed-only", is_flag=True, help="Refuse requests that are not sealed."),
    cloup.option(
        "--seal-window",
        type=ABOVE_ZERO,
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help="Maximum age of a sealed request, and difference of clocks.",
    ),
)
_BATCHING: Final = cloup.option_group(
    "Batching",
    cloup.option(
        "--max-batch", type=POSITIVE, default=8, show_default=True, metavar="N", help="Maximum clips per batch."
    ),
    cloup.option(
        "--queue-delay",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        metavar="MS",
        help="Maximum time that a clip waits for others to fill a batch.",
    ),
    cloup.option(
        "--max-queue",
        type=POSITIVE,
        default=64,
        show_default=True,
        metavar="N",
        help="Maximum waiting clips of a model.",
    ),
    cloup.option(
        "--instances", type=POSITIVE, default=1, show_default=True, metavar="N", help="Concurrent runs of a model."
    ),
)
_LIMITS: Final = cloup.option_group(
    "Limits",
    cloup.option(
        "--max-requests",
        type=POSITIVE,
        default=128,
        show_default=True,
        metavar="N",
        help="Maximum concurrent requests.",
    ),
    cloup.option(
        "--max-connections",
        type=POSITIVE,
        default=512,
        show_default=True,
        metavar="N",
        help="Maximum concurrent connections of HTTP, and as many of gRPC.",
    ),
    cloup.option(
        "--max-request-mib",
        type=click.IntRange(min=1, max=1024),
        default=64,
        show_default=True,
        metavar="MIB",
        help="Maximum size of a request.",
    ),
    cloup.option(
        "--read-timeout",
        type=ABOVE_ZERO,
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Maximum time to receive a request.",
    ),
    cloup.option(
        "--rate",
        type=click.FloatRange(min=0),
        default=0.0,
        metavar="N",
        help="Maximum requests per second of one client.  [default: unlimited]",
    ),
    cloup.option("--shared-memory", is_flag=True, help="Let clients on this machine register shared memory."),
    cloup.option(
        "--shared-memory-prefix", metavar="TEXT", help="Start of the names of shared memory objects.  [default: lcve_]"
    ),
    cloup.option(
        "--shared-memory-user",
        type=click.IntRange(min=0),
        multiple=True,
        metavar="UID",
        help="User that may own shared memory objects, in addition to the server's own; repeatable.",
    ),
)
_LOADING: Final = cloup.option_group(
    "Models",
    cloup.option(
        "--versions",
        type=POSITIVE,
        default=1,
        show_default=True,
        metavar="N",
        help="Number of newest versions to serve.",
    ),
    cloup.option(
        "--max-keys",
        type=POSITIVE,
        default=64,
        show_default=True,
        metavar="N",
        help="Maximum keys of a model in memory. The least recently used are dropped.",
    ),
    cloup.option(
        "--poll",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="Time between checks for new versions and keys; 0: never check.",
    ),
    cloup.option(
        "--grace",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="Maximum time to answer accepted requests on shutdown.",
    ),
)

listening_options: Final = value_from_options("listening", _make_listening, _LISTENING)
access_options: Final = value_from_options("access", _make_access, _ACCESS)
sealing_options: Final = value_from_options("sealing", SealingOptions, _SEALING)
batching_options: Final = value_from_options("batching", _make_batching, _BATCHING)
limits_options: Final = value_from_options("limits", _make_limits, _LIMITS)
loading_options: Final = value_from_options("loading", LoadingOptions, _LOADING)
