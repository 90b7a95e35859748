"""The owner's private key for signing artifacts: create, read, write, sign.

A signing key signs only manifests, and is independent of the security key of an artifact. Its file is PKCS#8 in PEM,
and that of the public key SubjectPublicKeyInfo in PEM, so that other software can read both.

Source: format of scheme ``lcve-1``, section "Signature"; RFC 8032, RFC 8410.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, final

from lcve_deploy.artifact import PublicKey, parse_manifest
from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.key_folder import parse_key_manifest
from lcve_deploy.artifact.names import KEY_MANIFEST
from lcve_deploy.errors import KeyFileError
from lcve_deploy.files.secrets import read_secret
from lcve_deploy.files.writing import new_file, require_absent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["SigningKey", "public_path"]

_SECRET_BYTES: Final = 32
_MAX_PEM: Final = 2**16
_EXPECTED: Final = "expected an Ed25519 private key in PEM"
_HINT: Final = "make one with: lcve keygen --signing"


@final
class SigningKey:
    """The private half of an Ed25519 key pair.

    Args:
        secret: 32 bytes from a cryptographic random source.

    Raises:
        KeyFileError: the secret has another length.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise KeyFileError(f"the secret of a signing key has {_SECRET_BYTES} bytes, received {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def create(cls) -> Self:
        """Create a new key from the operating system's random source."""
        return cls(secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the content of a private key file.

        Raises:
            KeyFileError: the data is a public key, has a password, or is not an Ed25519 private key.
        """
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if b"BEGIN PUBLIC KEY" in data:
            raise KeyFileError(f"{_EXPECTED}, received a public key", hint="pass the .pem file next to it")
        try:
            key = load_pem_private_key(data, password=None)
        except TypeError:
            raise KeyFileError(f"{_EXPECTED} without a password, received one with a password") from None
        except (ValueError, UnsupportedAlgorithm):
            raise KeyFileError(f"{_EXPECTED}, received something else", hint=_HINT) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise KeyFileError(f"{_EXPECTED}, received a key of another algorithm", hint=_HINT)
        return cls(key.private_bytes_raw())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a private key file, and warn if group or others can read it.

        Raises:
            KeyFileError: as for ``from_bytes``, or the path is not a regular file.
            FileNotFoundError: the file does not exist.
        """
        return read_secret(path, "a signing key", limit=_MAX_PEM, parse=cls.from_bytes)

    def to_bytes(self) -> bytes:
        """Return the content of the private key file: PKCS#8 in PEM, without a password."""
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        return self._private().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the private key with mode 0600 and the public key next to it; either both or none are written.

        Args:
            path: path of the private key; the public key has the same name with the ending ``.pub``.

        Raises:
            ExistsError: one of the files exists; existing files are never changed.
            WriteError: one of the files cannot be written.
            KeyFileError: the path of the private key ends in ``.pub``.
        """
        path = Path(path)
        public = require_absent(public_path(require_absent(path)))
        with contextlib.ExitStack() as undo:
            with new_file(path, private=True) as file:
                file.write(self.to_bytes())
            undo.callback(path.unlink, missing_ok=True)
            with new_file(public) as file:
                file.write(self.public_key.to_bytes())
            undo.pop_all()

    @property
    def public_key(self) -> PublicKey:
        """Public key, which servers and clients pin."""
        return PublicKey(raw=self._private().public_key().public_bytes_raw())

    def sign(self, manifest: bytes) -> bytes:
        """Sign a manifest and return the signature, 64 bytes.

        Args:
            manifest: bytes of ``manifest.json``.

        Raises:
            ArtifactError: the bytes are not a valid manifest; a signing key signs nothing else.
        """
        parse_manifest(manifest, Path(MANIFEST))
        return self._private().sign(manifest)

    def sign_key(self, manifest: bytes) -> bytes:
        """Sign the manifest of a key folder and return the signature, 64 bytes.

        Args:
            manifest: bytes of ``key.json``.

        Raises:
            ArtifactError: the bytes are not a valid manifest of a key folder.
        """
        parse_key_manifest(manifest, Path(KEY_MANIFEST))
        return self._private().sign(manifest)

    def __repr__(self) -> str:
        return f"SigningKey(public_key={self.public_key!r})"

    def __reduce__(self) -> str:
        raise TypeError("a signing key cannot be pickled; write it to a file instead")

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._secret)


def public_path(path: Path) -> Path:
    """Return the path of the public key for a private key at ``path``.

    Raises:
        KeyFileError: the path already ends in ``.pub``.
    """
    if path.suffix == ".pub":
        raise KeyFileError(f"{path} is the name of a public key", hint="name the private one, such as signing.pem")
    return path.with_suffix(".pub")
