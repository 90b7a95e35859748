"""Create, read and write key pairs for sealing.

A private file is PKCS#8 in PEM, a public one SubjectPublicKeyInfo in PEM, so that other software reads both. A pair of
the hybrid suite has two blocks in each: ML-KEM-768, then X25519.

Source: format ``lcve-seal-1``, section "Keys"; RFC 5958, RFC 8410, RFC 9935.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from lcve_deploy.errors import KeyFileError, SealingError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.files.secrets import read_secret
from lcve_deploy.files.writing import new_file, require_absent
from lcve_deploy.sealing.suites import Suite, supported

__all__ = ["SealingKey", "SealingPublicKey", "is_sealing_key"]

_MAX_PEM: Final = 2**14
_BLOCK: Final = re.compile(rb"-----BEGIN (PRIVATE|PUBLIC) KEY-----\n[A-Za-z0-9+/=\n]+\n-----END \1 KEY-----\n?")
_HINT: Final = "make a pair with: lcve keygen --sealing -o serve.key"
_EXPECTED: Final = "expected a {half} sealing key in PEM"


@dataclass(frozen=True, kw_only=True, repr=False)
class SealingPublicKey:
    """Public key of a pair, which clips and requests are sealed to.

    Args:
        suite: suite of the pair.
        raw: raw public key; of the hybrid suite, ML-KEM-768 and then X25519.

    Raises:
        SealingError: the bytes are not a public key of the suite.
    """

    suite: Suite
    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.public_bytes:
            raise SealingError(
                f"a public key of the suite {self.suite} has {self.suite.public_bytes} bytes, received {len(self.raw)}"
            )
        try:
            self.suite.public_key(self.raw)
        except SealingError:
            raise
        except ValueError:
            raise SealingError(f"the bytes are not a public key of the suite {self.suite}", hint=_HINT) from None

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the content of a public key file.

        Raises:
            SealingError: the content is not a public sealing key. A private key is not shown.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        if b"PRIVATE KEY" in data:
            raise SealingError(
                f"{_EXPECTED.format(half='public')}, received a private key",
                hint="pass the .pub file, and keep the private key where sealed data is opened, and nowhere else",
            )
        suite, raw = _parse(data, load_pem_public_key, _public_halves(), "public")
        return cls(suite=suite, raw=raw)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a public key file.

        Raises:
            SealingError: as ``from_bytes``.
            FileNotFoundError: there is no such file.
        """
        data = read_bounded(path, "a public sealing key", SealingError, max_bytes=_MAX_PEM)
        try:
            return cls.from_bytes(data)
        except SealingError as error:
            raise SealingError(f"{error}: {path}", hint=error.hint) from None

    def to_bytes(self) -> bytes:
        """Return the content of a public key file."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = self.suite.public_key(self.raw)
        parts = [key] if self.suite is Suite.X25519 else _split(self.raw)
        return b"".join(part.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for part in parts)

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the suite's name and the raw key, 64 hex digits; people and headers name keys by it."""
        return hashlib.sha256(self.suite.encode() + b"\0" + self.raw).hexdigest()

    def __repr__(self) -> str:
        return f"SealingPublicKey(suite={self.suite.value!r}, fingerprint={self.fingerprint!r})"


@final
class SealingKey:
    """Private key of a pair, which opens what was sealed to the public key.

    Args:
        suite: suite of the pair.
        secret: raw private key; of the hybrid suite, the seed of ML-KEM-768 and then the key of X25519.

    Raises:
        KeyFileError: the secret has another length.
    """

    __slots__ = ("_secret", "public_key", "suite")

    def __init__(self, suite: Suite, secret: bytes) -> None:
        if len(secret) != suite.secret_bytes:
            raise KeyFileError(
                f"a private key of the suite {suite} has {suite.secret_bytes} bytes, received {len(secret)}"
            )
        self.suite, self._secret = suite, bytes(secret)
        self.public_key = SealingPublicKey(suite=suite, raw=suite.public_of(self._secret))

    @classmethod
    def create(cls, suite: Suite = Suite.X25519) -> Self:
        """Create a pair from the operating system's random source."""
        import secrets

        return cls(suite, secrets.token_bytes(suite.secret_bytes))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the content of a private key file.

        Raises:
            KeyFileError: the content is not a private sealing key without a password.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if b"BEGIN PUBLIC KEY" in data:
            raise KeyFileError(
                f"{_EXPECTED.format(half='private')}, received a public key", hint="pass the private key next to it"
            )
        try:
            suite, secret = _parse(data, lambda pem: load_pem_private_key(pem, None), _private_halves(), "private")
        except SealingError as error:
            raise KeyFileError(str(error), hint=error.hint) from None
        return cls(suite, secret)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a private key file; warns when group or others can read it.

        Raises:
            KeyFileError: as ``from_bytes``.
            FileNotFoundError: there is no such file.
        """
        return read_secret(path, "a sealing key", limit=_MAX_PEM, parse=cls.from_bytes)

    def to_bytes(self) -> bytes:
        """Return the content of the private key file, without a password."""
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        parts: list[Any] = [X25519PrivateKey.from_private_bytes(self._secret[-32:])]
        if self.suite is Suite.HYBRID:
            parts.insert(0, MLKEM768PrivateKey.from_seed_bytes(self._secret[:-32]))
        return b"".join(part.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) for part in parts)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the private key with mode 0600, and the public one next to it; both appear, or neither does.

        Args:
            path: path of the private key; the public key gets the suffix ``.pub`` instead.

        Raises:
            ExistsError: one of them exists; existing files are never touched.
            WriteError: one of them could not be written; nothing of either is left.
            KeyFileError: the path has the suffix of a public key.
        """
        path = Path(path)
        if path.suffix == ".pub":
            raise KeyFileError(f"{path} is the name of a public key", hint="name the private one, such as serve.key")
        public = require_absent(require_absent(path).with_suffix(".pub"))
        with contextlib.ExitStack() as undo:
            with new_file(path, private=True) as file:
                file.write(self.to_bytes())
            undo.callback(path.unlink, missing_ok=True)
            with new_file(public) as file:
                file.write(self.public_key.to_bytes())
            undo.pop_all()

    def decrypt(self, ciphertext: memoryview, info: bytes) -> bytes:
        """Decrypt what was encrypted to the public key under ``info``.

        Raises:
            SealingError: the ciphertext was changed, or was sealed under another ``info``.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self.suite.decrypt(ciphertext, self._secret, info)
        except (InvalidTag, ValueError):
            raise SealingError(
                "it was changed after it was sealed, or was sealed for another purpose", hint="have it sealed again"
            ) from None

    def __repr__(self) -> str:
        return f"SealingKey(public_key={self.public_key!r})"

    def __reduce__(self) -> str:
        raise TypeError("a sealing key cannot be pickled; write it to a file instead")


def is_sealing_key(data: bytes) -> bool:
    """Return whether the content of a PEM file is a sealing key, private or public."""
    read = SealingKey.from_bytes if b"PRIVATE KEY" in data else SealingPublicKey.from_bytes
    try:
        read(data)
    except (KeyFileError, SealingError):
        return False
    return True


def _parse(
    data: bytes, load: Callable[[bytes], Any], halves: dict[tuple[type, ...], Suite], half: str
) -> tuple[Suite, bytes]:
    """Return the suite and the raw key of a PEM file.

    Raises:
        SealingError: the content is not the blocks of one suite, without a password.
    """
    expected = _EXPECTED.format(half=half)
    data = data.replace(b"\r\n", b"\n")
    blocks = [match[0] for match in _BLOCK.finditer(data)]
    if not blocks or b"".join(blocks) != data:
        raise SealingError(f"{expected}, without a password, received something else", hint=_HINT)
    try:
        with supported():
            keys = [load(block) for block in blocks[:3]]
    except SealingError:
        raise
    except (ValueError, TypeError):
        raise SealingError(f"{expected}, received something else", hint=_HINT) from None
    for kinds, suite in halves.items():
        if len(keys) == len(kinds) and all(map(isinstance, keys, kinds)):
            raw = "private_bytes_raw" if half == "private" else "public_bytes_raw"
            return suite, b"".join(getattr(key, raw)() for key in keys)
    raise SealingError(f"{expected}, received keys of another algorithm", hint=_HINT)


def _private_halves() -> dict[tuple[type, ...], Suite]:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return {(X25519PrivateKey,): Suite.X25519, (MLKEM768PrivateKey, X25519PrivateKey): Suite.HYBRID}


def _public_halves() -> dict[tuple[type, ...], Suite]:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    return {(X25519PublicKey,): Suite.X25519, (MLKEM768PublicKey, X25519PublicKey): Suite.HYBRID}


def _split(raw: bytes) -> list[Any]:
    """Return the two keys of a raw hybrid public key."""
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    return [MLKEM768PublicKey.from_public_bytes(raw[:-32]), X25519PublicKey.from_public_bytes(raw[-32:])]
