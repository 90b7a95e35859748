"""TLS for gRPC and HTTP, from the same PEM files, which can be read again while the server runs."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import RequestError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.serving.settings import TlsFiles

__all__ = ["ServerTls"]

_HINT: Final = "pass PEM files: --tls-cert with --tls-key, and --tls-client-ca for mutual TLS"


@dataclass(frozen=True, kw_only=True)
class _Pem:
    """Content of the PEM files. ``client_ca`` is None if clients need no certificate."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None


class ServerTls:
    """TLS of both protocols. New connections use the files that were read last; open ones continue as they are.

    Args:
        files: PEM files.

    Raises:
        RequestError: the files are not a certificate, its private key and an authority, or the key is encrypted.
        OSError: a file cannot be read.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._pem, self._context = _load(files)
        self._grpc_has: _Pem | None = None

    def reload(self) -> None:
        """Read the files again.

        Raises:
            RequestError, OSError: as on creation; the previous files stay in use.
        """
        self._pem, self._context = _load(self._files)

    def http_context(self) -> ssl.SSLContext:
        """Return a TLS context for asyncio that opens each connection with the files that were read last."""
        context = _CurrentContext(ssl.PROTOCOL_TLS_SERVER)
        context.tls = self
        return context

    def connect(self, *given: Any, **more: Any) -> ssl.SSLObject:
        """Return the TLS object of a new connection; see ``ssl.SSLContext.wrap_bio``."""
        return self._context.wrap_bio(*given, **more)

    def grpc_credentials(self) -> Any:
        """Return the TLS credentials of the gRPC server. Call once: one server asks for new files."""
        import grpc

        self._grpc_has = self._pem
        return grpc.dynamic_ssl_server_credentials(
            _grpc_configuration(self._pem),
            self._new_grpc_configuration,
            require_client_authentication=self._pem.client_ca is not None,
        )

    def _new_grpc_configuration(self) -> Any:
        """Return the files if they are new, else None. gRPC calls this for each connection, in a thread of its own."""
        pem = self._pem
        if pem is self._grpc_has:
            return None
        self._grpc_has = pem
        return _grpc_configuration(pem)


class _CurrentContext(ssl.SSLContext):
    """TLS context that passes each connection on to the context of the files that were read last.

    One context cannot do this: it only ever adds authorities, and clients could resume sessions of removed ones.
    """

    tls: ServerTls

    def wrap_bio(self, *given: Any, **more: Any) -> ssl.SSLObject:
        """Return the TLS object of a new connection; see ``ssl.SSLContext.wrap_bio``."""
        return self.tls.connect(*given, **more)


def _grpc_configuration(pem: _Pem) -> Any:
    import grpc

    return grpc.ssl_server_certificate_configuration([(pem.private_key, pem.certificate)], pem.client_ca)


def _load(files: TlsFiles) -> tuple[_Pem, ssl.SSLContext]:
    """Read the files for gRPC, and make the context of HTTP, which also validates them for gRPC."""
    pem = _read(files)
    context = _new_context(files)
    if _read(files) != pem:
        raise RequestError("the TLS files changed while they were read", hint="reload them once they are complete")
    return pem, context


def _read(files: TlsFiles) -> _Pem:
    def read(path: Path) -> bytes:
        return read_bounded(path, "a PEM file", RequestError)

    return _Pem(
        certificate=read(files.certificate),
        private_key=read(files.private_key),
        client_ca=read(files.client_ca) if files.client_ca else None,
    )


def _new_context(files: TlsFiles) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(files.certificate, files.private_key, password=_no_password)
        if files.client_ca is not None:
            context.load_verify_locations(files.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except ssl.SSLError as error:
        raise RequestError(f"the TLS files are invalid: {error.reason or error}", hint=_HINT) from None
    return context


def _no_password() -> str:
    raise RequestError("the TLS private key is encrypted, and the server cannot ask for a password", hint=_HINT)
