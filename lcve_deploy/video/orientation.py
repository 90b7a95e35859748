"""Right way up: what a display matrix or an EXIF orientation asks for, as FFmpeg and Pillow read them."""

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
    """One of the eight ways to place a rectangle: exchange rows and columns, then mirror.

    Args:
        transposed: rows become columns.
        left_right: mirrored left to right, after that.
        top_bottom: mirrored top to bottom, after that.
    """

    transposed: bool = False
    left_right: bool = False
    top_bottom: bool = False

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height as shown, of a picture that is stored with these."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, picture: Picture) -> Picture:
        """A stored picture ``[H, W, C]`` as it is shown; a view of the same memory."""
        placed = picture.swapaxes(0, 1) if self.transposed else picture
        return placed[:: -1 if self.top_bottom else 1, :: -1 if self.left_right else 1]


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
    """Of EXIF's tag 274; numbers outside 1 to 8 mean nothing and change nothing."""
    return _EXIF.get(number, AS_STORED)


def from_matrix(matrix: tuple[int, ...]) -> Orientation:
    """Of a display matrix, nine numbers row by row: (p, q) is shown at (m0 p + m3 q, m1 p + m4 q).

    A turn that is no multiple of 90 degrees becomes the nearest one.
    """
    if abs(matrix[0]) + abs(matrix[4]) >= abs(matrix[1]) + abs(matrix[3]):
        return Orientation(left_right=matrix[0] < 0, top_bottom=matrix[4] < 0)
    return Orientation(transposed=True, left_right=matrix[3] < 0, top_bottom=matrix[1] < 0)


def frame_orientation(frame: Any) -> Orientation:
    """Of a decoded frame of a video, by its display matrix.

    Args:
        frame: of PyAV.
    """
    try:
        data = frame.side_data.get(_kind())
    except ValueError:  # PyAV cannot list kinds of side data that are newer than it; the angle is read another way
        return _turned(frame.rotation)
    if data is None or len(bytes(data)) < _MATRIX.size:
        return AS_STORED
    return from_matrix(_MATRIX.unpack_from(bytes(data)))


def _kind() -> Any:
    from av.sidedata.sidedata import Type

    return Type.DISPLAYMATRIX


def _turned(degrees: int) -> Orientation:
    """Turned against the clock."""
    return from_exif({1: 8, 2: 3, 3: 6}.get(round(degrees / 90) % 4, 1))
