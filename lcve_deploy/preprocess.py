"""What makes a clip out of a video, as written in ``client.json``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

__all__ = ["LONGEST_SHORT_SIDE", "Preprocess", "Sampling"]

LONGEST_SHORT_SIDE: Final = 2**13
"""Largest short side, pixels."""


class Sampling(StrEnum):
    """How the frames of a clip are chosen."""

    KINETICS = "kinetics"
    """Every stride-th frame of a window; temporal views spread the windows over the video."""
    UNIFORM = "uniform"
    """Frames spread over the whole video (Something-Something); temporal views shift them."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """From a video to clips of the model's geometry.

    Args:
        frames: frames of a clip.
        stride: distance between them, in frames of the video; for Kinetics sampling.
        sampling: how frames are chosen.
        short_side: the frame's shorter side after resizing, pixels.
        crop: (height, width) of the clip, pixels.
        channel_order: always ``rgb``.

    Raises:
        ValueError: a size below one, a short side beyond its limit, or a crop that does not fit the resized frame.
    """

    frames: int
    stride: int = 4
    sampling: Sampling = Sampling.KINETICS
    short_side: int
    crop: tuple[int, int]
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        if min(self.frames, self.stride, self.short_side, *self.crop) < 1:
            raise ValueError(f"frames, stride, short side and crop must be at least 1, received {self}")
        if self.short_side > LONGEST_SHORT_SIDE:
            raise ValueError(f"a short side is at most {LONGEST_SHORT_SIDE} pixels, received {self.short_side}")
        if max(self.crop) > self.short_side:
            raise ValueError(f"a crop of {self.crop} does not fit frames whose short side is {self.short_side}")
        if self.channel_order != "rgb":
            raise ValueError(f"expected the channel order rgb, received {self.channel_order!r}")
