"""The three secret orders K1, K2 and K3, and the signs of ``lcve-dct-1``, derived from key, salt, geometry and classes.

Source: LCVE paper, section 3.2, step 1; format, sections "Derivation" and "Scheme ``lcve-dct-1``". The
keystream is AES-256-CTR, so that a client in any language makes the same orders; no generator of
NumPy is involved.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import SALT_BYTES, Scheme
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.secret import SecurityKey

__all__ = ["Order", "Orders", "Signs", "derive_orders"]


Order = npt.NDArray[np.int64]
Signs = npt.NDArray[np.int8]

_CHUNK_BYTES: Final = 4 * 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Orders:
    """The orders of one artifact. Secret: as good as the key for this artifact.

    Args:
        key_id: 32 hex digits of the key they came from.
        salt: public bytes of the artifact.
        geometry: clip and cube size they are made for.
        cube_order: K1, a permutation of ``0..N-1``; int64.
        pixel_order: K2, a permutation of ``0..L-1``; int64.
        label_order: K3, a permutation of ``0..classes-1``; int64. The hidden classifier's row c is row ``K3[c]`` of
            the plain one. None if the labels are shown, or if only clips are handled.
        signs: 1 or -1 for each plain coefficient of a cube, int8 ``[L]``; None in the scheme ``lcve-1``.
    """

    key_id: str
    salt: bytes
    geometry: ClipGeometry
    cube_order: Order
    pixel_order: Order
    label_order: Order | None = None
    signs: Signs | None = None

    @property
    def scheme(self) -> Scheme:
        """Scheme that the orders are made for."""
        return Scheme.LCVE if self.signs is None else Scheme.DCT

    @functools.cached_property
    def placement(self) -> Order:
        """Where each plain cube goes: the inverse of K1; int64 ``[N]``."""
        return _frozen(np.argsort(self.cube_order))

    @functools.cached_property
    def row_gather(self) -> Order:
        """What to take of a row of cubes to have its cubes with their values in the order K2; int64."""
        return _frozen(self.geometry.row_index()[:, self.pixel_order].reshape(-1))

    @functools.cached_property
    def word_gather(self) -> Order:
        """What to take of the 16-bit words of two rows of cubes; int64.

        Words have a byte of either row. They come in two halves: those of the low bytes of a row's own words, then
        those of the high bytes.
        """
        size = self.geometry.row_values
        low = 0 if sys.byteorder == "little" else 1
        halves = np.concatenate([np.arange(low, size, 2), np.arange(1 - low, size, 2)])
        return _frozen(np.argsort(halves)[self.row_gather[halves]])

    @functools.cached_property
    def word_scatter(self) -> Order:
        """The inverse of ``word_gather``; int64."""
        return _frozen(np.argsort(self.word_gather))

    def __reduce__(self) -> NoReturn:
        raise TypeError("orders cannot be pickled or copied; derive them again from the key")

    def __repr__(self) -> str:
        return f"Orders(key_id={self.key_id!r}, salt={self.salt.hex()!r}, geometry='{self.geometry}')"


_INNER: Final = {Scheme.LCVE: "pixel-order", Scheme.DCT: "coefficient-order"}
"""Label of K2."""


def derive_orders(
    key: SecurityKey,
    *,
    salt: bytes,
    geometry: ClipGeometry,
    classes: int | None = None,
    scheme: str = Scheme.LCVE,
) -> Orders:
    """Derive K1, K2 and, to hide the labels, K3 of an artifact; in the scheme ``lcve-dct-1`` also the signs.

    Args:
        key: of the artifact.
        salt: its 16 public bytes.
        geometry: clip and cube size, for K1 and K2.
        classes: size of K3. None makes no K3: the labels are shown, or only clips are handled.
        scheme: one of ``Scheme``; the orders of different schemes have nothing in common.

    Raises:
        ValueError: the salt does not have 16 bytes, or there is no such scheme.
    """
    scheme = Scheme(scheme)
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes, received {len(salt)}")
    return Orders(
        key_id=key.key_id,
        salt=salt,
        geometry=geometry,
        cube_order=_order(key, f"{scheme}/cube-order/{geometry}", geometry.cubes, salt),
        pixel_order=_order(key, f"{scheme}/{_INNER[scheme]}/{geometry}", geometry.values, salt),
        label_order=None if classes is None else _order(key, f"{scheme}/label-order/{classes}", classes, salt),
        signs=_signs(key, f"{scheme}/coefficient-sign/{geometry}", geometry, salt) if scheme is Scheme.DCT else None,
    )


def _signs(key: SecurityKey, info: str, geometry: ClipGeometry, salt: bytes) -> Signs:
    """Return a sign for each bit of the keystream, the least significant bit of a byte first; 1 is negative."""
    stream = np.frombuffer(_keystream(key.kdf(info, 32, salt)).update(bytes(-(-geometry.values // 8))), np.uint8)
    signs = 1 - 2 * np.unpackbits(stream, count=geometry.values, bitorder="little").astype(np.int8)
    signs.setflags(write=False)
    return signs


def _order(key: SecurityKey, info: str, size: int, salt: bytes) -> Order:
    """Fisher and Yates' shuffle; draws that would favour small numbers are thrown away."""
    draw = _Draws(key.kdf(info, 32, salt)).next
    order = list(range(size))
    for last in range(size - 1, 0, -1):
        bound = last + 1
        limit = 2**32 - 2**32 % bound
        value = draw()
        while value >= limit:
            value = draw()
        swap = value % bound
        order[last], order[swap] = order[swap], order[last]
    return _frozen(np.array(order, dtype=np.int64))


def _frozen(order: Order) -> Order:
    order.setflags(write=False)
    return order


def _keystream(key: bytes) -> Any:
    """Return an AES-256-CTR encryptor; zeros through it are the keystream."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    return Cipher(AES256(key), CTR(bytes(16))).encryptor()


class _Draws:
    """The AES-256-CTR keystream as consecutive little-endian 32-bit draws."""

    def __init__(self, key: bytes) -> None:
        self._stream = _keystream(key)
        self._chunk: list[int] = []

    def next(self) -> int:
        if not self._chunk:
            words = np.frombuffer(self._stream.update(bytes(_CHUNK_BYTES)), dtype="<u4")
            self._chunk = words[::-1].tolist()
        return self._chunk.pop()
