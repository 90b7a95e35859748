"""Block-preserving encryption: blocks stay pictures, so that a video codec still compresses the encrypted clip.

A block has the height and width of a cube and reaches over all frames. Blocks change places, alike in all frames. In
every block, alike in all of them: its four sub-blocks change places, each is turned or mirrored in one of eight ways
and is negated or not (x becomes 255 - x), and the colours change places.

This is how we understand the compression-friendly kind of encryption that followed the LCVE paper. It is not taken from
any one publication, and makes no claim about one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy import SecurityKey
from lcve_deploy.clips import SALT_BYTES
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.orders import Orders
from paper.methods.encryption import Clips, as_blocks, as_clips
from paper.methods.shuffles import Shuffle

__all__ = [
    "SUB_BLOCKS",
    "TURNS",
    "BlockPreserving",
    "InnerKey",
    "block_preserving",
    "join_block",
    "split_block",
    "turned",
]

SUB_BLOCKS: Final = 4
TURNS: Final = 8
"""Ways to turn or mirror a square."""
_SIDE: Final = 2
_WHITE: Final = 255

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class InnerKey:
    """What happens inside of every block.

    Args:
        places: which sub-block comes to each of the four places, ``[4]``.
        turns: how each place's sub-block is turned, 0..7, ``[4]``; see :func:`turned`.
        negated: whether it is negated, bool ``[4]``.
        colours: which colour comes to each channel, ``[C]``.
    """

    places: Order
    turns: Order
    negated: npt.NDArray[np.bool_]
    colours: Order

    def value_order(self, geometry: ClipGeometry) -> Order:
        """Return an order, ``[L]``: before negation, encrypted value j of a cube is plain value ``order[j]``."""
        parts = split_block(np.arange(geometry.values).reshape(*geometry.cube, geometry.channels))
        moved = [turned(parts[place], turn) for place, turn in zip(self.places, self.turns, strict=True)]
        order: Order = join_block(np.stack(moved)[..., self.colours]).reshape(-1)
        return order

    def negated_values(self, geometry: ClipGeometry) -> npt.NDArray[np.bool_]:
        """Return whether encrypted value j of a cube is negated, ``[L]``."""
        parts = split_block(np.empty((*geometry.cube, geometry.channels), bool))
        marks: npt.NDArray[np.bool_] = join_block(
            np.broadcast_to(self.negated[:, None, None, None, None], parts.shape)
        ).reshape(-1)
        return marks


class BlockPreserving:
    """The encryption with its key: a shuffle of restricted orders, and negation.

    Args:
        geometry: of the clips. A cube must be square, with sides that can be halved.
        blocks: which block comes to each place of a frame, ``[H/h · W/w]``.
        inner: what happens inside of every block.

    Raises:
        ValueError: cubes that are not square, or have odd sides.
    """

    def __init__(self, geometry: ClipGeometry, blocks: Order, inner: InnerKey) -> None:
        _, height, width = geometry.cube
        if height != width or height % _SIDE:
            raise ValueError(f"expected square cubes with sides that can be halved, received {height}x{width}")
        steps = geometry.grid[0]
        self.geometry, self.blocks, self.inner = geometry, blocks, inner
        self.negated = inner.negated_values(geometry)
        self.orders = Orders(
            key_id="0" * 32,
            salt=bytes(SALT_BYTES),
            geometry=geometry,
            cube_order=(np.arange(steps)[:, None] * len(blocks) + blocks).reshape(-1),
            pixel_order=inner.value_order(geometry),
        )

    def encrypt(self, clips: Clips) -> Clips:
        """Encrypt plain clips ``[clips, T, H, W, C]`` (uint8); the shape stays."""
        return self._negate(Shuffle(self.orders).encrypt(clips))

    def decrypt(self, clips: Clips) -> Clips:
        """Invert :meth:`encrypt`, without loss."""
        return Shuffle(self.orders).decrypt(self._negate(clips))

    def _negate(self, clips: Clips) -> Clips:
        blocks = as_blocks(clips, self.geometry) ^ np.where(self.negated, _WHITE, 0).astype(np.uint8)
        return as_clips(blocks, self.geometry, clips.shape)


def block_preserving(key: SecurityKey, geometry: ClipGeometry) -> BlockPreserving:
    """Return the encryption that a key says."""
    draws = np.random.default_rng(list(key.kdf("paper/block-preserving", 32, bytes(SALT_BYTES))))
    inner = InnerKey(
        places=draws.permutation(SUB_BLOCKS),
        turns=draws.integers(TURNS, size=SUB_BLOCKS),
        negated=draws.integers(2, size=SUB_BLOCKS).astype(bool),
        colours=draws.permutation(geometry.channels),
    )
    return BlockPreserving(geometry, draws.permutation(geometry.cubes // geometry.grid[0]), inner)


def turned(block: npt.NDArray[Any], number: int) -> npt.NDArray[Any]:
    """Turn a square ``[..., side, side, C]`` by quarters, and mirror it from number 4 on."""
    quarter = np.rot90(block, number % 4, axes=(-3, -2))
    return quarter[..., ::-1, :] if number >= 4 else quarter


def split_block(block: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the four parts of a block ``[..., h, w, C]``, row by row: ``[4, ..., h/2, w/2, C]``."""
    *lead, height, width, channels = block.shape
    apart = block.reshape(*lead, _SIDE, height // _SIDE, _SIDE, width // _SIDE, channels)
    return np.moveaxis(apart, (-5, -3), (0, 1)).reshape(SUB_BLOCKS, *lead, height // _SIDE, width // _SIDE, channels)


def join_block(parts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Invert :func:`split_block`."""
    _, *lead, height, width, channels = parts.shape
    apart = np.moveaxis(parts.reshape(_SIDE, _SIDE, *lead, height, width, channels), (0, 1), (-5, -3))
    return apart.reshape(*lead, _SIDE * height, _SIDE * width, channels)
