"""The owner's signature of a manifest, and the public key with which servers and clients check it.

A reader that pins a public key accepts only what its owner has signed. The private key has a module of its own,
``lcve_deploy.keys.signing``, which nothing of the server can reach.

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
from lcve_deploy.files.reading import require_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.serialization import Encoding

__all__ = ["SIGNATURE_BYTES", "PublicKey", "check_signature", "is_signed", "read_signature", "write_signature"]

SIGNATURE_BYTES: Final = 64

_PUBLIC_BYTES: Final = 32
_MAX_PEM: Final = 2**16
_EXPECTED: Final = "expected an Ed25519 public key in PEM"
_AGAIN: Final = "ask the owner for the signed artifact, and for the public key"


@dataclass(frozen=True, kw_only=True, repr=False)
class PublicKey:
    """The public key of an owner, as it is pinned.

    Args:
        raw: the 32 bytes of an Ed25519 public key.

    Raises:
        SignatureError: the key has another length.
    """

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _PUBLIC_BYTES:
            raise SignatureError(f"an Ed25519 public key has {_PUBLIC_BYTES} bytes, received {len(self.raw)}")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the content of a public key file.

        Raises:
            SignatureError: a private key, which is not shown, or no Ed25519 public key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if b"PRIVATE KEY" in data:
            raise SignatureError(
                f"{_EXPECTED}, received a private key",
                hint="pass the .pub file, and keep the private key where artifacts are signed, and nowhere else",
            )
        try:
            key = load_pem_public_key(data)
        except (ValueError, UnsupportedAlgorithm):
            raise SignatureError(f"{_EXPECTED}, received something else", hint=_AGAIN) from None
        if not isinstance(key, Ed25519PublicKey):
            raise SignatureError(f"{_EXPECTED}, received a key of another algorithm", hint=_AGAIN)
        return cls(raw=key.public_bytes_raw())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a public key file.

        Raises:
            SignatureError: as ``from_bytes``.
            FileNotFoundError: there is no such file.
        """
        require_file(path, "a public key", SignatureError)
        try:
            with open(path, "rb") as file:
                return cls.from_bytes(file.read(_MAX_PEM))
        except SignatureError as error:
            raise SignatureError(f"{error}: {path}", hint=error.hint) from None

    def to_bytes(self) -> bytes:
        """The content of a public key file: SubjectPublicKeyInfo in PEM."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return self._encoded(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in DER, 64 hex digits: what people compare."""
        from cryptography.hazmat.primitives.serialization import Encoding

        return hashlib.sha256(self._encoded(Encoding.DER)).hexdigest()

    def holds(self, data: bytes, signature: bytes) -> bool:
        """Whether the owner has made this signature of 64 bytes over ``data``."""
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
    """Check the owner's signature over the bytes of a manifest, before anything that they say is used.

    A caller that gets manifest and signature in another way than as files calls this first, and then parses
    these very bytes.

    Args:
        manifest: the bytes of ``manifest.json``.
        signature: as received; None if there was none.
        signed_by: the pinned key.
        place: where both came from, for the message.

    Raises:
        SignatureError: no signature, a damaged one, or one that this key has not made over these bytes.
    """
    if signature is None:
        raise SignatureError(f"{place} is not signed, and a key is pinned", hint=_AGAIN)
    if len(signature) != SIGNATURE_BYTES:
        received = len(signature) if len(signature) < SIGNATURE_BYTES else "more"
        raise SignatureError(
            f"the signature of {place} is damaged: expected {SIGNATURE_BYTES} bytes, received {received}", hint=_AGAIN
        )
    if not signed_by.holds(manifest, signature):
        raise SignatureError(
            f"the signature of {place} is invalid: another key has made it, or the manifest was changed; pinned is "
            f"the key {signed_by.fingerprint[:16]}...",
            hint=_AGAIN,
        )


def is_signed(server: Path) -> bool:
    """Whether there is a signature; that it holds is not said."""
    return (server / SIGNATURE).is_file()


def read_signature(server: Path) -> bytes | None:
    """The signature of a server folder, and of a longer file the beginning; None if there is none."""
    path = server / SIGNATURE
    try:
        require_file(path, "a signature", SignatureError)
        with path.open("rb") as file:
            return file.read(SIGNATURE_BYTES + 1)
    except FileNotFoundError:
        return None


def write_signature(server: Path, signature: bytes | None) -> None:
    """Write ``manifest.sig`` into a server folder that is being staged; nothing if there is no signature."""
    if signature is not None:
        (server / SIGNATURE).write_bytes(signature)
