"""What known clips give of every compared encryption: an attacker has plain clips, their ciphertexts, and no key.

He knows the method and the geometry. What is moved is known by what it holds in all blocks of all known clips; blocks
that move as well are known by what they hold, in whatever order. Things that are equal in all known clips cannot be
told apart, and are assigned in their order.

* Pixel shuffle: values by their series over all blocks; blocks do not move.
* Cube shuffle: cubes by their content.
* LCVE: the package's own attack.
* Qi et al.: the same attack. All that one place of a sub-cube holds in all sub-cubes of a cube moves together, as one
  value of a longer alphabet.
* LE: halves by their series over all blocks, as they are or reversed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.clips import match_pairs
from lcve_deploy.attacks.solvers.equal_rows import pair_equal_rows, row_classes
from lcve_deploy.clips import SALT_BYTES
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders
from paper.methods.encryption import Clips, Encryption, as_blocks, at_level
from paper.methods.learnable_encryption import LearnableEncryption, learnable_encryption, split
from paper.methods.shuffles import Shuffle, cube_shuffle, lcve, one_cube, pixel_shuffle, qi, sub_cube_order
from paper.methods.table import Make, Method

__all__ = ["break_known"]

Order = npt.NDArray[np.int64]
Attack = Callable[[Clips, Clips, ClipGeometry], Encryption]

_MAX_HALF: Final = 15


def break_known(method: Method, plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    """An encryption with estimated orders: it decrypts other clips so far as these are right.

    Args:
        method: what the clips are encrypted with.
        plain: known clips ``[clips, T, H, W, C]``, uint8.
        cipher: their encryption under the unknown key, of the same shape.
        geometry: of the clips.
    """
    parts = at_level(method.level, geometry)
    return _ATTACKS[method.make](as_blocks(plain, parts), as_blocks(cipher, parts), parts)


def _find_values(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    values = pair_equal_rows(*row_classes(_by_place(plain), _by_place(cipher)))
    return _shuffle(geometry, values=values)


def _find_cubes(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    cubes = pair_equal_rows(*row_classes(_by_cube(plain), _by_cube(cipher)))
    return _shuffle(geometry, cubes=cubes)


def _find_both(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    found = match_pairs(plain, cipher)
    return _shuffle(geometry, cubes=found.order("cubes"), values=found.order("values"))


def _find_pixels(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    found = match_pairs(*_pixel_numbers(plain, cipher, geometry))
    pixels = found.order("values")
    return _shuffle(geometry, cubes=found.order("cubes"), values=sub_cube_order(geometry, lambda _: pixels))


def _find_halves(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> Encryption:
    (upright, was), (cipher_upright, became) = (_upright(_by_place(split(blocks))) for blocks in (plain, cipher))
    order = pair_equal_rows(*row_classes(upright, cipher_upright))
    reversed_halves = np.empty(len(order), dtype=bool)
    reversed_halves[order] = became ^ was[order]
    return LearnableEncryption(geometry, order, reversed_halves)


_ATTACKS: Final[Mapping[Make, Attack]] = {
    pixel_shuffle: _find_values,
    cube_shuffle: _find_cubes,
    lcve: _find_both,
    qi: _find_pixels,
    learnable_encryption: _find_halves,
}


def _by_place(blocks: Clips) -> Clips:
    """What every place of a block holds in all blocks of all clips, ``[L, clips · N]``."""
    return np.ascontiguousarray(blocks.reshape(-1, blocks.shape[-1]).T)


def _by_cube(blocks: Clips) -> Clips:
    """What every cube holds in all clips, ``[N, clips · L]``."""
    return np.ascontiguousarray(blocks.transpose(1, 0, 2)).reshape(blocks.shape[1], -1)


def _pixel_numbers(plain: Clips, cipher: Clips, geometry: ClipGeometry) -> tuple[Order, Order]:
    """A number for all that a place of a sub-cube holds in all sub-cubes of a cube: two of ``[clips, N, places]``."""
    contents = [_contents(blocks, geometry) for blocks in (plain, cipher)]
    shape = contents[0].shape[:-1]
    first, second = row_classes(*(content.reshape(-1, content.shape[-1]) for content in contents))
    return first.reshape(shape), second.reshape(shape)


def _contents(blocks: Clips, geometry: ClipGeometry) -> Clips:
    """Blocks ``[clips, N, L]`` as ``[clips, N, places, sub-cubes · C]``."""
    cube = one_cube(geometry)
    parts = cube.to_cubes(blocks.reshape(*blocks.shape[:2], *cube.clip_shape), np)
    pixels = parts.reshape(*blocks.shape[:2], cube.cubes, -1, geometry.channels).swapaxes(2, 3)
    return np.ascontiguousarray(pixels).reshape(*pixels.shape[:3], -1)


def _upright(series: Clips) -> tuple[Clips, npt.NDArray[np.bool_]]:
    """Series ``[2L, ...]``, reversed where they begin above the middle, and which are."""
    turned = series[:, 0] > _MAX_HALF // 2
    return np.where(turned[:, None], _MAX_HALF - series, series), turned


def _shuffle(geometry: ClipGeometry, cubes: Order | None = None, values: Order | None = None) -> Shuffle:
    """A shuffle with estimated orders; what does not move stays."""
    orders = Orders(
        key_id="0" * 32,
        salt=bytes(SALT_BYTES),
        geometry=geometry,
        cube_order=np.arange(geometry.cubes) if cubes is None else cubes,
        pixel_order=np.arange(geometry.values) if values is None else values,
    )
    return Shuffle(orders)
