"""Turn frames upright by their display matrix or EXIF orientation, as FFmpeg and Pillow do."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["AS_STORED", "Orientation", "frame_orientation", "from_exif", "from_matrix"]

Picture = npt.NDArray[np.uint8]

_MATRIX: Final = struct.Struct("=9i")


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """One of eight orientations of a rectangle: transpose it, then mirror it.

    Args:
        transposed: exchange rows and columns.
        left_right: then mirror left to right.
        top_bottom: then mirror top to bottom.
    """

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the upright picture, from those of the stored one."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: Picture) -> Picture:
        """Return the upright picture of a stored picture ``[H, W, C]``; a view of the same memory."""
        turned = picture.swapaxes(0, 1) if self.transposed else picture
        return turned[:: -1 if self.top_bottom else 1, :: -1 if self.left_right else 1]


AS_STORED: Final = Orientation()

_EXIF: Final = {
    1: AS_STORED,
    2: Orientation(left_right=True),
    3: Orientation(left_right=True, top_bottom=True),
    4: Orientation(top_bottom=True),
    5: Orientation(transposed=True),
    6: Orientation(transposed=True, left_right=True),
    7: Orientation(transposed=True, left_right=True, top_bottom=True),
    8: Orientation(transposed=True, top_bottom=True),
}


def from_exif(number: int) -> Orientation:
    """Return the orientation for a value of EXIF tag 274, 1..8; other values leave the picture as stored."""
    return _EXIF.get(number, AS_STORED)


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """Return the orientation for a display matrix.

    Args:
        matrix: nine numbers, row by row: the point (p, q) is shown at (m0 p + m3 q, m1 p + m4 q). Rotations are rounded
            to multiples of 90 degrees.
    """
    if abs(matrix[0]) + abs(matrix[4]) >= abs(matrix[1]) + abs(matrix[3]):
        return Orientation(left_right=matrix[0] < 0, top_bottom=matrix[4] < 0)
    return Orientation(transposed=True, left_right=matrix[3] < 0, top_bottom=matrix[1] < 0)


def frame_orientation(frame: Any) -> Orientation:
    """Return the orientation of a decoded frame, from its display matrix.

    Args:
        frame: frame of PyAV.
    """
    try:
        data = frame.side_data.get(_display_matrix())
    except ValueError:  # side data of a type that this PyAV does not know; ``rotation`` is read in another way
        return _from_rotation(frame.rotation)
    if data is None or len(bytes(data)) < _MATRIX.size:
        return AS_STORED
    return from_matrix(_MATRIX.unpack_from(bytes(data)))


def _display_matrix() -> Any:
    from av.sidedata.sidedata import Type

    return Type.DISPLAYMATRIX


def _from_rotation(degrees: int) -> Orientation:
    """Return the orientation for a counterclockwise rotation."""
    return from_exif({1: 8, 2: 3, 3: 6}.get(round(degrees / 90) % 4, 1))
