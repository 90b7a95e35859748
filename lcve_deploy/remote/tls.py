"""TLS of a session: certificates are read and checked once, before anything is sent."""

from __future__ import annotations

import ssl

from lcve_deploy.errors import DeniedError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.remote.options import RemoteOptions

__all__ = ["tls_context"]


def tls_context(options: RemoteOptions) -> ssl.SSLContext:
    """A context that checks the server's name and certificate, with ours where there is one.

    Raises:
        DeniedError: a file that is no PEM, or a key that is not that of the certificate.
        OSError: no such file.
    """
    _check_files(options)
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.tls_cert is not None:
            context.load_cert_chain(options.tls_cert, options.tls_key, password=_no_passphrase)
    except (ssl.SSLError, ValueError) as error:
        raise DeniedError(
            f"certificates or key that cannot be used: {error}",
            hint="they are PEM files; a key has no passphrase and is that of its certificate",
        ) from None
    return context


def _check_files(options: RemoteOptions) -> None:
    """Read every file that is named, so that one that is missing is said to be.

    Raises:
        DeniedError: a folder, or a file too large to be certificates.
        OSError: no such file.
    """
    for path in options.tls_files:
        read_bounded(path, "certificates or a key in PEM", DeniedError)


def _no_passphrase() -> str:
    """OpenSSL would ask for one at the terminal."""
    raise ValueError("a key with a passphrase")
