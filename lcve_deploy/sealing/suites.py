"""Define the two suites of HPKE, and their keys as raw bytes.

Source: RFC 9180; for the hybrid, draft-ietf-hpke-pq (KEM MLKEM768-X25519, 0x647a).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from lcve_deploy.errors import SealingError

__all__ = ["TAG_BYTES", "Suite", "supported"]

TAG_BYTES: Final = 16
"""Bytes that AES-256-GCM adds to what it encrypts."""

_X25519_BYTES: Final = 32
_SEED_BYTES: Final = 64
_ENCAPSULATION_BYTES: Final = 1184
_ENCAPSULATED_BYTES: Final = 1088


class Suite(StrEnum):
    """Key encapsulation; both are used with HKDF-SHA256 and AES-256-GCM."""

    X25519 = "x25519"
    HYBRID = "mlkem768-x25519"
    """ML-KEM-768 and X25519 combined: secure as long as one of them is."""

    @property
    def secret_bytes(self) -> int:
        """Return the bytes of a raw private key: the seed of ML-KEM, then X25519."""
        return _SIZES[self].secret

    @property
    def public_bytes(self) -> int:
        """Return the bytes of a raw public key: ML-KEM, then X25519."""
        return _SIZES[self].public

    @property
    def overhead(self) -> int:
        """Return the bytes that encryption adds to a plaintext: the encapsulated key and the tag."""
        return _SIZES[self].encapsulated + TAG_BYTES

    def private_key(self, secret: bytes) -> Any:
        """Return the library's object for a raw private key."""
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        classical = X25519PrivateKey.from_private_bytes(secret[-_X25519_BYTES:])
        if self is Suite.X25519:
            return classical
        return hpke.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(secret[:_SEED_BYTES]), classical)

    def public_key(self, raw: bytes) -> Any:
        """Return the library's object for a raw public key.

        Raises:
            ValueError: the bytes are not an ML-KEM key.
            SealingError: the library was built without ML-KEM.
        """
        from cryptography.hazmat.primitives import hpke
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        classical = X25519PublicKey.from_public_bytes(raw[-_X25519_BYTES:])
        if self is Suite.X25519:
            return classical
        with supported():
            lattice = MLKEM768PublicKey.from_public_bytes(raw[:_ENCAPSULATION_BYTES])
        return hpke.MLKEM768X25519PublicKey(lattice, classical)

    def public_of(self, secret: bytes) -> bytes:
        """Return the raw public key of a raw private key.

        Raises:
            SealingError: the library was built without ML-KEM.
        """
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        classical = X25519PrivateKey.from_private_bytes(secret[-_X25519_BYTES:]).public_key().public_bytes_raw()
        if self is Suite.X25519:
            return classical
        with supported():
            lattice = MLKEM768PrivateKey.from_seed_bytes(secret[:_SEED_BYTES]).public_key()
        return lattice.public_bytes_raw() + classical

    def encrypt(self, plaintext: bytes, raw: bytes, info: bytes) -> bytes:
        """Encrypt to a raw public key, and return the encapsulated key, ciphertext and tag.

        Raises:
            ValueError: the public key gives no shared secret.
        """
        sealed: bytes = self._hpke().encrypt(plaintext, self.public_key(raw), info=info)
        return sealed

    def decrypt(self, ciphertext: memoryview, secret: bytes, info: bytes) -> bytes:
        """Invert ``encrypt``.

        Raises:
            cryptography.exceptions.InvalidTag: ciphertext, key or ``info`` is not that of the encryption.
        """
        opened: bytes = self._hpke().decrypt(ciphertext, self.private_key(secret), info=info)
        return opened

    def _hpke(self) -> Any:
        from cryptography.hazmat.primitives import hpke

        kem = hpke.KEM.X25519 if self is Suite.X25519 else hpke.KEM.MLKEM768_X25519
        return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


@contextlib.contextmanager
def supported() -> Iterator[None]:
    """Raise a clear error if the library does not support an algorithm that the block uses.

    Raises:
        SealingError: the library was built without ML-KEM.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        yield
    except UnsupportedAlgorithm:
        raise SealingError(
            "the installed cryptography does not support the algorithm of this sealing key",
            hint="ML-KEM is in the wheels since 48: pip install -U 'cryptography>=48'; or use a key of X25519",
        ) from None


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Sizes of a suite's raw keys and encapsulated key, in bytes."""

    secret: int
    public: int
    encapsulated: int


_SIZES: Final = {
    Suite.X25519: _Sizes(secret=_X25519_BYTES, public=_X25519_BYTES, encapsulated=_X25519_BYTES),
    Suite.HYBRID: _Sizes(
        secret=_SEED_BYTES + _X25519_BYTES,
        public=_ENCAPSULATION_BYTES + _X25519_BYTES,
        encapsulated=_ENCAPSULATED_BYTES + _X25519_BYTES,
    ),
}
