"""What every compared encryption is: clips in, clips of the same shape out, and back.

At the frame level an operation works on every frame by itself, with the same orders for all frames; at the video
level it works on cubes that reach over time. The first is the second for clips of one frame, so one code serves both.

Source: LCVE paper, sections 3.4 and 4.2.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level

__all__ = ["Clips", "Encryption", "as_blocks", "as_clips", "as_parts", "at_level"]

Clips = npt.NDArray[np.uint8]


class Encryption(Protocol):
    """An encryption with its key."""

    def encrypt(self, clips: Clips) -> Clips:
        """Plain clips ``[clips, T, H, W, C]`` (uint8) to encrypted ones of the same shape.

        Raises:
            ValueError: clips of another geometry.
        """

    def decrypt(self, clips: Clips) -> Clips:
        """The inverse of :meth:`encrypt`, without loss."""


def at_level(level: Level, geometry: ClipGeometry) -> ClipGeometry:
    """The geometry that an operation of a level works on: clips, or single frames in patches."""
    if level is Level.VIDEO:
        return geometry
    return dataclasses.replace(geometry, frames=1, cube=(1, *geometry.cube[1:]))


def as_parts(clips: Clips, geometry: ClipGeometry) -> Clips:
    """Clips ``[clips, T, H, W, C]`` as what a level works on: ``[parts, *geometry.clip_shape]``.

    Raises:
        ValueError: clips of another geometry. Reshaped, they would be mixed with one another, and nobody would see it.
    """
    frames, *frame = clips.shape[-4:]
    if frames % geometry.frames or tuple(frame) != geometry.clip_shape[1:]:
        raise ValueError(
            f"expected clips that end in the axes {list(geometry.clip_shape)} (or a multiple of the frames), "
            f"received {list(clips.shape)}"
        )
    return clips.reshape(-1, *geometry.clip_shape)


def as_blocks(clips: Clips, geometry: ClipGeometry) -> Clips:
    """Clips ``[clips, T, H, W, C]`` as blocks ``[parts, N, L]``: see :func:`as_parts`."""
    blocks: Clips = geometry.to_cubes(as_parts(clips, geometry), np)
    return blocks


def as_clips(blocks: Clips, geometry: ClipGeometry, shape: tuple[int, ...]) -> Clips:
    """The inverse of :func:`as_blocks`; ``shape`` is that of the clips."""
    clips: Clips = geometry.from_cubes(blocks, np).reshape(shape)
    return clips
