"""Check the owner's signature of a manifest with a public key.

A server or client that pins a public key accepts only artifacts that its owner has signed. The private key is in
``lcve_deploy.keys.signing``, which the server cannot import.

Source: format of scheme ``lcve-1``, section "Signature"; RFC 8032.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from lcve_deploy.artifact.digests import SIGNATURE
from lcve_deploy.errors import SignatureError
from lcve_deploy.files.reading import open_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import Encoding

__all__ = ["SIGNATURE_BYTES", "PublicKey", "check_signature", "is_signed", "read_signature", "write_signature"]

SIGNATURE_BYTES: Final = 64

_PUBLIC_BYTES: Final = 32
_MAX_PEM: Final = 2**16
_EXPECTED: Final = "expected an Ed25519 public key in PEM"
_HINT: Final = "ask the owner for the signed artifact and for the public key"


@dataclass(frozen=True, kw_only=True, repr=False)
class PublicKey:
    """Public key of a model owner, to pin on servers and clients.

    Args:
        raw: 32 bytes of an Ed25519 public key.

    Raises:
        SignatureError: ``raw`` does not have 32 bytes.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _PUBLIC_BYTES:
            raise SignatureError(f"an Ed25519 public key has {_PUBLIC_BYTES} bytes, received {len(self.raw)}")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the content of a public key file.

        Raises:
            SignatureError: the data is a private key (the message does not show it), or not an Ed25519 public key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if b"PRIVATE KEY" in data:
            raise SignatureError(
                f"{_EXPECTED}, received a private key",
                hint="pass the .pub file; keep the private key only on the machine that signs artifacts",
            )
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            raise SignatureError(f"{_EXPECTED}, received something else", hint=_HINT) from None
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError(f"{_EXPECTED}, received a key of another algorithm", hint=_HINT)
        return cls(raw=key.public_bytes_raw())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a public key file.

        Raises:
            SignatureError: as for ``from_bytes``, or the path is not a regular file.
            FileNotFoundError: the file does not exist.
        """
        with open_file(path, "a public key", SignatureError) as file:
            data = file.read(_MAX_PEM)
        try:
            return cls.from_bytes(data)
        except SignatureError as error:
            raise SignatureError(f"{error}: {path}", hint=error.hint) from None

    def to_bytes(self) -> bytes:
        """Return the content of a public key file: SubjectPublicKeyInfo in PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._encoded(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in DER, 64 hex digits, for comparison by people."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return hashlib.sha256(self._encoded(Encoding.DER)).hexdigest()

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Tell whether a signature of 64 bytes over ``data`` is valid under this key."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, data)
        except InvalidSignature:
            return False
        return True

    def __repr__(self) -> str:
        return f"PublicKey(fingerprint={self.fingerprint!r})"

    def _encoded(self, encoding: Encoding) -> bytes:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import PublicFormat

        key = Ed25519PublicKey.from_public_bytes(self.raw)
        return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def check_signature(
    manifest: bytes, signature: bytes | None, signed_by: PublicKey, *, place: str | os.PathLike[str]
) -> None:
    """Check the owner's signature over the bytes of a manifest.

    Call this before parsing the manifest, and then parse the same bytes. ``read_manifest`` does both; call this
    directly if manifest and signature do not come from a server folder.

    Args:
        manifest: bytes of ``manifest.json``.
        signature: the signature as received; None if there is none.
        signed_by: the pinned key.
        place: where manifest and signature came from, for the message.

    Raises:
        SignatureError: the signature is missing, damaged, or not valid for these bytes under this key.
    """
    if signature is None:
        raise SignatureError(f"{place} is not signed, and a key is pinned", hint=_HINT)
    if len(signature) != SIGNATURE_BYTES:
        received = len(signature) if len(signature) < SIGNATURE_BYTES else "more"
        raise SignatureError(
            f"the signature of {place} is damaged: expected {SIGNATURE_BYTES} bytes, received {received}", hint=_HINT
        )
    if not signed_by.verifies(manifest, signature):
        raise SignatureError(
            f"the signature of {place} is invalid: it was made with another key, or the manifest was changed; the "
            f"pinned key is {signed_by.fingerprint[:16]}...",
            hint=_HINT,
        )


def is_signed(folder: Path, name: str = SIGNATURE) -> bool:
    """Tell whether a model folder, or with another name a key folder, has a signature, without checking it."""
    return (folder / name).is_file()


def read_signature(folder: Path, name: str = SIGNATURE) -> bytes | None:
    """Read the signature of a model folder, or with another name of a key folder; return None if there is none.

    The length is not checked here. At most 65 bytes are read, so that ``check_signature`` notices a longer file.

    Raises:
        SignatureError: the signature is not a regular file.
    """
    path = folder / name
    try:
        with open_file(path, "a signature", SignatureError) as file:
            return file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError:
        return None


def write_signature(folder: Path, signature: bytes | None, name: str = SIGNATURE) -> None:
    """Write a signature into a folder that is being staged; None writes nothing."""
    if signature is not None:
        (folder / name).write_bytes(signature)
