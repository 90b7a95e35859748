"""LE, Learnable Encryption: halves of bytes are reversed and shuffled inside of every block.

Every byte of a block of L values is split into its upper and lower four bits, which makes 2L halves: the block has
six channels instead of three. Halves at secret places are reversed (x becomes 15 - x), then all halves are shuffled,
in all blocks alike. Two halves together make a byte again, so that the encrypted clip has the shape of the plain one
and a model takes it as it is.

Source: LCVE paper, section 4.2 and Table 1, ``(2thwC)! · 2^(2thwC)``; Tanaka, "Learnable Image Encryption", 2018, whose
published program puts the halves together in the same way, but reverses the same places before and after the shuffle,
and takes them from its order. Here both are drawn apart, as the paper's key space counts them, and halves are reversed
before they move, as the paper says.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lcve_deploy import SecurityKey
from lcve_deploy.clips import SALT_BYTES
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level
from paper.methods.encryption import Clips, as_blocks, as_clips, at_level

__all__ = ["LearnableEncryption", "learnable_encryption"]

_MAX_HALF = 15


class LearnableEncryption:
    """LE with its key.

    Args:
        geometry: of the level: blocks are its cubes.
        order: of the 2L halves; all upper halves come before all lower ones.
        reversed_halves: which of them are reversed before they move, bool ``[2L]``.
    """

    def __init__(
        self, geometry: ClipGeometry, order: npt.NDArray[np.int64], reversed_halves: npt.NDArray[np.bool_]
    ) -> None:
        self._geometry, self.order, self.reversed_halves = geometry, order, reversed_halves

    def encrypt(self, clips: Clips) -> Clips:
        """Plain clips ``[clips, T, H, W, C]`` (uint8) to encrypted ones of the same shape."""
        return as_clips(joined(self.encrypt_halves(clips)), self._geometry, clips.shape)

    def encrypt_halves(self, clips: Clips) -> Clips:
        """The encrypted six-channel blocks ``[..., N, 2L]``, 0..15."""
        return np.take(self._reverse(split(as_blocks(clips, self._geometry))), self.order, axis=-1)

    def decrypt(self, clips: Clips) -> Clips:
        """The inverse of :meth:`encrypt`, without loss."""
        halves = np.take(split(as_blocks(clips, self._geometry)), np.argsort(self.order), axis=-1)
        return as_clips(joined(self._reverse(halves)), self._geometry, clips.shape)

    def _reverse(self, halves: Clips) -> Clips:
        """15 - x is x with its four bits flipped."""
        return halves ^ np.where(self.reversed_halves, _MAX_HALF, 0).astype(np.uint8)


def split(blocks: Clips) -> Clips:
    """Bytes ``[..., L]`` to their halves ``[..., 2L]``, 0..15: upper ones, then lower ones."""
    return np.concatenate([blocks >> 4, blocks & _MAX_HALF], axis=-1)


def joined(halves: Clips) -> Clips:
    """The inverse of :func:`split`."""
    upper, lower = np.split(halves, 2, axis=-1)
    return np.bitwise_or(np.left_shift(upper, 4), lower)


def learnable_encryption(key: SecurityKey, geometry: ClipGeometry, level: Level) -> LearnableEncryption:
    """LE with what a key says."""
    blocks = at_level(level, geometry)
    draws = np.random.default_rng(list(key.kdf("paper/le", 32, bytes(SALT_BYTES))))
    halves = 2 * blocks.values
    return LearnableEncryption(blocks, draws.permutation(halves), draws.integers(2, size=halves).astype(bool))
