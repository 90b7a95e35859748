"""TLS of a session. Certificates are read and checked once, before anything is sent."""

from __future__ import annotations

import ssl

from lcve_deploy.errors import DeniedError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.remote.options import RemoteOptions

__all__ = ["tls_context"]


def tls_context(options: RemoteOptions) -> ssl.SSLContext:
    """Return a context that verifies the server's name and certificate and, if set, presents the client's certificate.

    Raises:
        DeniedError: a file is not PEM, or the key does not belong to the certificate.
        OSError: a file cannot be read.
    """
    _check_files(options)
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert is not None:
            context.load_cert_chain(options.tls_cert, options.tls_key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise DeniedError(
            f"the certificates or key cannot be used: {error}",
            hint="give PEM files; the key must belong to the certificate and have no passphrase",
        ) from None
    return context


def _check_files(options: RemoteOptions) -> None:
    """Read every given file, so that the error for a missing one names it.

    Raises:
        DeniedError: a path is a folder, or the file is too large to be certificates.
        OSError: a file cannot be read.
    """
    for path in options.tls_files:
        read_bounded(path, "certificates or a key in PEM", DeniedError)


def _no_passphrase() -> str:
    """Refuse a key with a passphrase; OpenSSL would prompt for it at the terminal."""
    raise ValueError("the key has a passphrase")
