"""Options of a connection to a server."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cloup

from lcve_deploy.cli.options.groups import Decorator, as_usage_error, value_from_options
from lcve_deploy.cli.options.sealing import pad_option, seal_to_option
from lcve_deploy.cli.options.types import ABOVE_ZERO, COUNT, PATH

if TYPE_CHECKING:
    from lcve_deploy.remote import RemoteOptions
    from lcve_deploy.sealing import SealingPublicKey

__all__ = ["REMOTE", "RemoteRequest", "remote_options", "server_option"]

REMOTE: Final = (
    *("deadline", "retries", "token_file", "tls_ca", "tls_cert", "tls_key", "shared_memory", "seal_to", "pad"),
)
"""Names of these options."""


def server_option(*, required: bool) -> Decorator[Any]:
    """Return ``--server``, the address of a model."""
    return cloup.option(
        "--server",
        required=required,
        metavar="ADDRESS",
        help="Model on a server: grpc://host:port/model, or grpcs, http, https.",
    )


@dataclass(frozen=True, kw_only=True)
class RemoteRequest:
    """Options of a remote session; None for the default of ``lcve_deploy.remote.RemoteOptions``."""

    deadline: float | None
    retries: int | None
    token_file: Path | None
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    shared_memory: bool
    seal_to: SealingPublicKey | None
    pad: int | None

    def options(self) -> RemoteOptions:
        """Return the options; the package for remote sessions is imported only if a server is used."""
        from lcve_deploy.remote import RemoteOptions

        os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would print its own lines before our error
        with as_usage_error():
            return RemoteOptions(**{name: value for name, value in vars(self).items() if value is not None})


_OPTIONS: Final = (
    cloup.option(
        "--deadline",
        type=ABOVE_ZERO,
        metavar="SECONDS",
        help="Seconds for a request, including retries.  [default: 60]",
    ),
    cloup.option(
        "--retries",
        type=COUNT,
        metavar="N",
        help="Maximum retries, on another endpoint if possible.  [default: 4]",
    ),
    cloup.option(
        "--token-file", type=PATH, metavar="FILE", help="File with this client's token.  [env var: LCVE_TOKEN]"
    ),
    cloup.option("--tls-ca", type=PATH, metavar="PEM", help="Root certificates.  [default: public authorities]"),
    cloup.option("--tls-cert", type=PATH, metavar="PEM", help="Certificate of this client, with --tls-key."),
    cloup.option("--tls-key", type=PATH, metavar="PEM", help="Private key of that certificate."),
    cloup.option("--shared-memory", is_flag=True, help="Pass clips in shared memory to a gRPC server on this machine."),
    seal_to_option("requests"),
    pad_option(default=None),
)

remote_options: Final = value_from_options("remote", RemoteRequest, cloup.option_group("Server", *_OPTIONS))
