"""Downsampling: not an encryption, but what the paper compares with; no key, and no way back.

Source: LCVE paper, section 5.1 and Tables 3 and 5.
"""

from __future__ import annotations

import numpy as np

from paper.methods.encryption import Clips

__all__ = ["downsample"]


def downsample(clips: Clips, factor: int) -> Clips:
    """Frames reduced by ``factor`` (means of squares), and enlarged again to the size that a model takes.

    Args:
        clips: ``[clips, T, H, W, C]``, uint8; H and W must be multiples of the factor.
        factor: 1 or more.

    Raises:
        ValueError: a factor below 1, or frames that are not a whole number of squares.
    """
    *lead, height, width, channels = clips.shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"expected a factor of at least 1 that divides the sides of frames, received {factor} for {height}x{width}"
        )
    squares = clips.reshape(*lead, height // factor, factor, width // factor, factor, channels)
    small: Clips = np.rint(squares.mean(axis=(-4, -2))).astype(np.uint8)
    return small.repeat(factor, axis=-3).repeat(factor, axis=-2)
