"""Clip geometry: the division of a clip into cubes.

The only module that reshapes clips into cubes and back. Cubes are numbered row-major over the (time, row, column) grid;
the values of a cube are flattened row-major over (t, h, w, C).

Source: LCVE paper, section 3.2, steps 2, 4, 6 and 7; format of scheme ``lcve-1``.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_CLIP_VALUES", "MAX_CUBES", "MAX_CUBE_VALUES", "MAX_SIDE", "ClipGeometry"]

MAX_SIDE: Final = 2**14
"""Maximum frames, rows, columns and channels."""
MAX_CUBES: Final = 2**17
"""Maximum N: that of 64 frames of 1024 x 1024 pixels in cubes of 2x16x16."""
MAX_CUBE_VALUES: Final = 2**16
"""Maximum L; a cube of 2x16x16x3 has 1536."""
MAX_CLIP_VALUES: Final = 2**28
"""Maximum N·L; a clip of 64 frames of 518 x 518 pixels has 52 million."""

_SIZE: Final = r"([1-9]\d{0,8})"
_PATTERN = re.compile(f"{'x'.join([_SIZE] * 4)}/{'x'.join([_SIZE] * 3)}", re.ASCII)

# Arrays of NumPy, CuPy, torch, or any library with an array API namespace.
Array = Any


@dataclass(frozen=True, kw_only=True)
class ClipGeometry:
    """Size of a clip and of its cubes.

    Args:
        frames: T, frames of a clip.
        height: H, height in pixels.
        width: W, width in pixels.
        channels: C, values per pixel.
        cube: (t, h, w), frames, height and width of a cube; T, H and W must be multiples of them.

    Raises:
        ValueError: a size is below 1 or exceeds its limit, or the clip is not a whole number of cubes.
    """

    frames: int
    height: int
    width: int
    channels: int = 3
    cube: tuple[int, int, int]

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.channels, *self.cube) < 1:
            raise ValueError(f"expected sizes of at least 1 in a geometry, received {self}")
        uneven = [
            f"{name} {size} is not a multiple of the cube's {step}"
            for name, size, step in zip(("frames", "height", "width"), self.clip_shape, self.cube, strict=False)
            if size % step
        ]
        if uneven:
            raise ValueError(f"a clip must be a whole number of cubes: {'; '.join(uneven)}")
        self._require_limits()

    def _require_limits(self) -> None:
        """Check the limits: orders and arrays are allocated by geometry, which may come from an untrusted file."""
        if max(self.clip_shape) > MAX_SIDE:
            raise ValueError(f"expected sides of at most {MAX_SIDE}, received {self}")
        if self.cubes > MAX_CUBES or self.values > MAX_CUBE_VALUES or self.cubes * self.values > MAX_CLIP_VALUES:
            raise ValueError(
                f"expected at most {MAX_CUBES} cubes, {MAX_CUBE_VALUES} values per cube and {MAX_CLIP_VALUES} values "
                f"per clip, received {self.cubes}, {self.values} and {self.cubes * self.values} of {self}"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``TxHxWxC/txhxw``, for example ``16x224x224x3/2x16x16``.

        Raises:
            ValueError: the text has another form, or its geometry is invalid.
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f"expected a geometry such as 16x224x224x3/2x16x16, received {text[:100]!r}")
        frames, height, width, channels, *cube = map(int, match.groups())
        return cls(frames=frames, height=height, width=width, channels=channels, cube=(cube[0], cube[1], cube[2]))

    def __str__(self) -> str:
        return "x".join(map(str, self.clip_shape)) + "/" + "x".join(map(str, self.cube))

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """``(T, H, W, C)``."""
        return self.frames, self.height, self.width, self.channels

    @property
    def picture_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """``(H, W, C)``, the shape of a picture, if a clip has one frame; otherwise none."""
        return (self.clip_shape[1:],) if self.frames == 1 else ()

    @property
    def grid(self) -> tuple[int, int, int]:
        """Numbers of cubes along time, rows and columns."""
        t, h, w = self.cube
        return self.frames // t, self.height // h, self.width // w

    @property
    def cubes(self) -> int:
        """N, the number of cubes in a clip."""
        nt, nh, nw = self.grid
        return nt * nh * nw

    @property
    def values(self) -> int:
        """L = t·h·w·C, the number of values in a cube."""
        t, h, w = self.cube
        return t * h * w * self.channels

    @property
    def row_values(self) -> int:
        """t·h·W·C, the number of values in a row of cubes."""
        return self.grid[2] * self.values

    def to_cubes(self, clip: Array, xp: Any) -> Array:
        """Divide clips ``[..., T, H, W, C]`` into cubes ``[..., N, L]``; ``xp`` is the array namespace."""
        lead = tuple(clip.shape[:-4])
        return xp.reshape(self.cubes_apart(clip, xp), (*lead, self.cubes, self.values))

    def cubes_apart(self, clip: Array, xp: Any) -> Array:
        """Divide clips into cubes without copying a contiguous clip, ``[..., T/t, H/h, W/w, t, h, w·C]``."""
        lead = tuple(clip.shape[:-4])
        (nt, nh, nw), (t, h, w) = self.grid, self.cube
        apart = xp.reshape(clip, (*lead, nt, t, nh, h, nw, w * self.channels))
        return xp.permute_dims(apart, _after(lead, (0, 2, 4, 1, 3, 5)))

    def to_rows(self, clip: Array, xp: Any) -> Array:
        """Divide clips into rows of cubes, ``[..., cube rows, t·h·W·C]``; long contiguous runs are fast to copy.

        Accepts any whole number of cubes along time, so that a clip can be processed in parts.
        """
        lead, slabs = tuple(clip.shape[:-4]), clip.shape[-4] // self.cube[0]
        return xp.reshape(self.rows_apart(clip, xp), (*lead, slabs * self.grid[1], self.row_values))

    def rows_apart(self, clip: Array, xp: Any) -> Array:
        """Divide clips into rows of cubes without copying a contiguous clip, ``[..., T/t, H/h, t, h·W·C]``."""
        lead, frames = tuple(clip.shape[:-4]), clip.shape[-4]
        (_, nh, _), (t, h, _) = self.grid, self.cube
        apart = xp.reshape(clip, (*lead, frames // t, t, nh, h * self.width * self.channels))
        return xp.permute_dims(apart, _after(lead, (0, 2, 1, 3)))

    def row_index(self) -> npt.NDArray[np.intp]:
        """Return the indices of the values of each cube in a row of cubes, ``[cubes along the width, L]``."""
        t, h, _ = self.cube
        row = dataclasses.replace(self, frames=t, height=h)
        index: npt.NDArray[np.intp] = row.to_cubes(np.arange(math.prod(row.clip_shape)).reshape(row.clip_shape), np)
        return index

    def from_cubes(self, cubes: Array, xp: Any) -> Array:
        """Reassemble cubes ``[..., N, L]`` to clips ``[..., T, H, W, C]``; the inverse of ``to_cubes``."""
        lead = tuple(cubes.shape[:-2])
        (nt, nh, nw), (t, h, w) = self.grid, self.cube
        apart = xp.reshape(cubes, (*lead, nt, nh, nw, t, h, w, self.channels))
        together = xp.permute_dims(apart, _after(lead, (0, 3, 1, 4, 2, 5, 6)))
        return xp.reshape(together, (*lead, *self.clip_shape))


def _after(lead: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return all batch axes, followed by ``axes`` counted from the first axis that is not a batch axis."""
    return (*range(len(lead)), *(len(lead) + axis for axis in axes))
