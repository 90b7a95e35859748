"""Preprocessing of a video into clips, as recorded in ``client.json``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Self

__all__ = ["MAX_SHORT_SIDE", "Preprocess", "Resample", "Rounding", "Sampling"]

MAX_SHORT_SIDE: Final = 2**13
"""Maximum short side, and maximum side of a fixed size, pixels."""


class Sampling(StrEnum):
    """How the frames of a clip are chosen."""

    KINETICS = "kinetics"
    """Every stride-th frame of a window; temporal views spread the windows over the video."""
    UNIFORM = "uniform"
    """Frames spread over the whole video (Something-Something); temporal views shift them."""


class Resample(StrEnum):
    """Interpolation of a resized frame. All but ``NEAREST`` widen their filter when downscaling."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Rounding(StrEnum):
    """First pixel of a crop whose position falls between two pixels."""

    NEAREST = "nearest"
    """The nearest, half to even, as in the official code of VideoMAE."""
    DOWN = "down"
    """The lower, as in transformers."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Settings that turn a video into clips of the model's geometry.

    Frames are resized to ``short_side`` or to ``size``, or not at all if both are None.

    Args:
        frames: frames of a clip.
        stride: distance between the frames of a clip, in frames of the video; for Kinetics sampling.
        sampling: how frames are chosen.
        short_side: the frame's shorter side after resizing, pixels; its aspect is kept.
        size: (height, width) of every frame after resizing, pixels; its aspect is not kept.
        resample: interpolation of resized frames.
        crop: (height, width) of the clip, pixels.
        crop_rounding: rounding of the crop's position.
        channel_order: always ``rgb``.

    Raises:
        ValueError: a size below one or beyond its limit, both ``short_side`` and ``size``, or a crop that does not fit
            the resized frame.
    """

    frames: int
    stride: int = 4
    sampling: Sampling = Sampling.KINETICS
    short_side: int | None = None
    size: tuple[int, int] | None = None
    resample: Resample = Resample.BILINEAR
    crop: tuple[int, int]
    crop_rounding: Rounding = Rounding.NEAREST
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        if self.short_side is not None and self.size is not None:
            raise ValueError(f"expected a short side or a size, received {self.short_side} and {self.size}")
        sides = (self.short_side,) * 2 if self.short_side is not None else self.size or self.crop
        if min(self.frames, self.stride, *sides, *self.crop) < 1:
            raise ValueError(f"frames, stride, sides and crop must be at least 1, received {self}")
        if max(sides) > MAX_SHORT_SIDE:
            raise ValueError(f"a short side or size is at most {MAX_SHORT_SIDE} pixels, received {max(sides)}")
        if self.crop[0] > sides[0] or self.crop[1] > sides[1]:
            raise ValueError(f"a crop of {self.crop} does not fit frames that are resized to {self.resizing}")
        if self.channel_order != "rgb":
            raise ValueError(f"expected the channel order rgb, received {self.channel_order!r}")

    @property
    def resizing(self) -> str:
        """Description of the resizing, for messages."""
        if self.size is not None:
            return f"{self.size[0]} x {self.size[1]} (height x width), {self.resample}"
        return "their own size" if self.short_side is None else f"a short side of {self.short_side}, {self.resample}"

    def with_sampling(self, sampling: Sampling | None, stride: int | None) -> Self:
        """Return a copy with another sampling or stride; None keeps the current one."""
        return replace(self, sampling=sampling or self.sampling, stride=stride or self.stride)

    def resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) of a frame after resizing, with the long side rounded down.

        Args:
            height: height of the frame as displayed, pixels.
            width: width of the frame as displayed, pixels.
        """
        if self.size is not None:
            return self.size
        if self.short_side is None:
            return height, width
        short = min(height, width)
        return height * self.short_side // short, width * self.short_side // short
