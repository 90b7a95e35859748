"""A certificate authority and what it has signed, for tests of TLS."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Pem:
    """Files for TLS; with ``ca``, clients must have a certificate of it."""

    cert: Path
    key: Path
    ca: Path | None = None


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority of a test, and what it has signed."""

    folder: Path
    ca: Path
    server: Pem
    client: Pem


def make_authority(folder: Path) -> Authority:
    """Issue certificates into an empty folder."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def issue(name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(private)
        return certificate, key

    root = issue("ca", None)
    issue("stranger", None)
    for name in ("server", "client"):
        issue(name, root)
    pair = {name: Pem(folder / f"{name}.pem", folder / f"{name}.key") for name in ("server", "client")}
    return Authority(folder=folder, ca=folder / "ca.pem", server=pair["server"], client=pair["client"])
