"""Encryptions that only move values: pixel shuffle, cube shuffle, both (LCVE), and that of Qi et al.

All four are the package's own ``encrypt`` with other orders: where an operation is left out, its order is the
identity; where whole pixels move inside of sub-cubes, the order of the values says so.

Source: LCVE paper, section 3.2 and, for Qi et al., section 4.2 with the sub-cube of section 5.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lcve_deploy import SecurityKey
from lcve_deploy.cipher.clips import binding_of, decrypt, encrypt
from lcve_deploy.clips import SALT_BYTES, EncryptedClip, Layout, PlainClip
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level
from lcve_deploy.keys.orders import Orders, derive_orders
from paper.methods.encryption import Clips, as_parts, at_level

__all__ = ["Shuffle", "cube_shuffle", "lcve", "pixel_shuffle", "qi"]

Order = npt.NDArray[np.int64]
_SALT = bytes(SALT_BYTES)


class Shuffle:
    """Cubes in one secret order, the values of every cube in another.

    Args:
        orders: for the geometry of the level: clips are divided into parts of its frames.
    """

    def __init__(self, orders: Orders) -> None:
        self.orders = orders

    def encrypt(self, clips: Clips) -> Clips:
        """Plain clips ``[clips, T, H, W, C]`` (uint8) to encrypted ones of the same shape."""
        plain = PlainClip(values=as_parts(clips, self.orders.geometry))
        return np.asarray(encrypt(plain, self.orders, layout=Layout.VIDEO).values).reshape(clips.shape)

    def decrypt(self, clips: Clips) -> Clips:
        """The inverse of :meth:`encrypt`, without loss."""
        parts = as_parts(clips, self.orders.geometry)
        encrypted = EncryptedClip(values=parts, binding=binding_of(self.orders, Layout.VIDEO))
        return np.asarray(decrypt(encrypted, self.orders).values).reshape(clips.shape)


def lcve(key: SecurityKey, geometry: ClipGeometry, level: Level) -> Shuffle:
    """Both operations: LCVE, with the package's own key schedule."""
    return Shuffle(derive_orders(key, salt=_SALT, geometry=at_level(level, geometry)))


def pixel_shuffle(key: SecurityKey, geometry: ClipGeometry, level: Level) -> Shuffle:
    """The values of every cube in the order K2; cubes stay."""
    orders = lcve(key, geometry, level).orders
    return Shuffle(dataclasses.replace(orders, cube_order=np.arange(orders.geometry.cubes)))


def cube_shuffle(key: SecurityKey, geometry: ClipGeometry, level: Level) -> Shuffle:
    """Cubes (patches, at the frame level) in the order K1; their values stay."""
    orders = lcve(key, geometry, level).orders
    return Shuffle(dataclasses.replace(orders, pixel_order=np.arange(orders.geometry.values)))


def qi(key: SecurityKey, geometry: ClipGeometry, level: Level) -> Shuffle:
    """Qi et al.: cubes move, and whole pixels move inside of sub-cubes, in all sub-cubes alike."""
    orders = lcve(key, geometry, level).orders
    draws = np.random.default_rng(list(key.kdf("paper/qi/sub-cube", 32, _SALT)))
    return Shuffle(dataclasses.replace(orders, pixel_order=sub_cube_order(orders.geometry, draws.permutation)))


def sub_cube_order(geometry: ClipGeometry, permutation: Callable[[int], Order]) -> Order:
    """Order of a cube's values, ``[L]``, that moves whole pixels inside of its sub-cubes.

    A sub-cube has half the cube's height and width, and half its frames where there are two or more: 1×8×8 for the
    paper's cube of 2×16×16.

    Raises:
        ValueError: a side of the cube that cannot be halved.
    """
    cube = one_cube(geometry)
    places = cube.to_cubes(np.arange(geometry.values).reshape(cube.clip_shape), np)
    pixels = places.reshape(cube.cubes, -1, geometry.channels)
    moved = pixels[:, permutation(pixels.shape[1])].reshape(cube.cubes, -1)
    order: Order = cube.from_cubes(moved, np).reshape(-1)
    return order


def one_cube(geometry: ClipGeometry) -> ClipGeometry:
    """One cube as a clip of its own, divided into sub-cubes.

    Raises:
        ValueError: a side of the cube that cannot be halved.
    """
    t, h, w = geometry.cube
    if h % 2 or w % 2 or (t % 2 and t > 1):
        raise ValueError(
            "sub-cubes halve the sides of a cube: expected an even height and width, and one frame or an even number, "
            f"received a cube of {t}x{h}x{w}"
        )
    sub_cube = (max(t // 2, 1), h // 2, w // 2)
    return ClipGeometry(frames=t, height=h, width=w, channels=geometry.channels, cube=sub_cube)
