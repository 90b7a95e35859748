"""TLS for gRPC and HTTP, from the same PEM files."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import RequestError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.serving.settings import TlsFiles

__all__ = ["grpc_credentials", "http_context"]

_HINT: Final = "pass PEM files: --tls-cert with --tls-key, and --tls-client-ca for mutual TLS"


def http_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the TLS context of the HTTP server. If ``files.client_ca`` is set, clients need a certificate.

    Raises:
        RequestError: the files are not a certificate, its private key and an authority, or the key is encrypted.
        OSError: a file cannot be read.
    """
    for path in (files.certificate, files.private_key, files.client_ca):
        if path is not None:
            _read(path)
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        raise RequestError(f"the TLS files are invalid: {error.reason or error}", hint=_HINT) from None
    return context


def grpc_credentials(files: TlsFiles) -> Any:
    """Return the TLS credentials of the gRPC server.

    Call ``http_context`` with the same files first: it validates them, and gRPC reports errors poorly.
    """
    import grpc

    pair = (_read(files.private_key), _read(files.certificate))
    authority = _read(files.client_ca) if files.client_ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def _read(path: Path) -> bytes:
    return read_bounded(path, "a PEM file", RequestError)


def _no_password() -> str:
    raise RequestError("the TLS private key is encrypted, and the server cannot ask for a password", hint=_HINT)
