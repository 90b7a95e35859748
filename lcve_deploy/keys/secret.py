"""The security key: create, derive, read and write.

A key file is 48 bytes: ``LCVEKEY1``, 32 secret bytes, and the first 8 bytes of the SHA-256 over
the 40 before. The secret never appears in a message, a log or a ``repr``.

Source: format of scheme ``lcve-1``, sections "Key file" and "Derivation"; RFC 5869.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from typing import Final, Self, final

from lcve_deploy.errors import KeyFileError
from lcve_deploy.files.secrets import read_secret
from lcve_deploy.files.writing import new_file

__all__ = ["SecurityKey"]

_MAGIC: Final = b"LCVEKEY1"
_SECRET_BYTES: Final = 32
_FILE_BYTES: Final = 48
_NAME: Final = re.compile(r"[a-z0-9._-]{1,64}")


@final
class SecurityKey:
    """A secret of 32 bytes, and what is derived from it.

    Args:
        secret: 32 bytes from a cryptographic random source.

    Raises:
        KeyFileError: the secret has another length.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _SECRET_BYTES:
            raise KeyFileError(f"a secret has {_SECRET_BYTES} bytes, received {len(secret)}")
        self._secret = bytes(secret)

    @classmethod
    def create(cls) -> Self:
        """Create a new key from the operating system's random source."""
        return cls(secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the content of a key file.

        Raises:
            KeyFileError: magic bytes, length or checksum are wrong, each with a separate message.
        """
        if data[: len(_MAGIC)] != _MAGIC[: len(data)] or not data:
            raise KeyFileError("not a key file: it does not begin with LCVEKEY1", hint="make one with: lcve keygen")
        if len(data) != _FILE_BYTES:
            received = "more" if len(data) > _FILE_BYTES else len(data)
            raise KeyFileError(
                f"a key file has {_FILE_BYTES} bytes, received {received}", hint="restore the file from a copy"
            )
        if _checksum(data[:40]) != data[40:]:
            raise KeyFileError("the key file is damaged: its checksum does not match", hint="restore it from a copy")
        return cls(data[8:40])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a key file, and warn if group or others can read it.

        Raises:
            KeyFileError: the file is damaged, not a key file, or not a regular file.
            FileNotFoundError: the file does not exist.
        """
        return read_secret(path, "a key file", limit=_FILE_BYTES + 1, parse=cls.from_bytes)

    def to_bytes(self) -> bytes:
        """Return the 48 bytes of the key file."""
        head = _MAGIC + self._secret
        return head + _checksum(head)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the key file with mode 0600, completely or not at all; an existing file is never changed.

        Raises:
            ExistsError: the path exists.
            WriteError: the file cannot be written.
        """
        with new_file(path, private=True) as file:
            file.write(self.to_bytes())

    @property
    def key_id(self) -> str:
        """Identifier of the key, 32 hex digits; it does not reveal the secret."""
        return self.kdf("lcve-1/key-id", 16).hex()

    def derive(self, name: str) -> SecurityKey:
        """Derive the key of one camera or client; a derived key does not reveal this one.

        Args:
            name: 1 to 64 characters from ``a-z 0-9 . _ -``.

        Raises:
            KeyFileError: the name is invalid.
        """
        if not _NAME.fullmatch(name):
            raise KeyFileError(f"a key name is 1 to 64 of a-z 0-9 . _ -, received {name!r}")
        return SecurityKey(self.kdf(f"lcve-1/derived-key/{name}", _SECRET_BYTES))

    def kdf(self, info: str, length: int, salt: bytes = b"") -> bytes:
        """Derive ``length`` bytes from the secret with HKDF-SHA256, for the ASCII label ``info``."""
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info.encode("ascii")).derive(self._secret)

    def __repr__(self) -> str:
        return f"SecurityKey(key_id={self.key_id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecurityKey) and secrets.compare_digest(self._secret, other._secret)

    def __hash__(self) -> int:
        return hash(self.key_id)

    def __reduce__(self) -> str:
        raise TypeError("a security key cannot be pickled; write it to a key file instead")


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:8]
