"""Write clips as videos or as pictures of their frames."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.files.writing import new_file
from lcve_deploy.video.decode import load_av

__all__ = ["encode_png", "tile", "write_contact_sheet", "write_video"]

Clip = npt.NDArray[np.uint8]


def write_video(path: Path, clip: Clip, *, frames_per_second: int = 8) -> None:
    """Write a clip ``[T, H, W, 3]`` (uint8 RGB) as H.264 in MP4, visually lossless; odd sizes lose one row or column.

    Raises:
        ExistsError: the path exists.
        WriteError: the file could not be written.
    """
    av = load_av()
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        height, width = (size - size % 2 for size in clip.shape[1:3])  # 4:2:0 needs even sizes
        stream = container.add_stream("libx264", rate=frames_per_second, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in clip[:, :height, :width]:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with new_file(path) as file:
        file.write(memory.getvalue())


def write_contact_sheet(path: Path, clip: Clip) -> None:
    """Write the frames of a clip ``[T, H, W, 3]`` (uint8 RGB) as one PNG.

    Raises:
        ExistsError: the path exists.
        WriteError: the file could not be written.
    """
    columns = math.ceil(math.sqrt(len(clip)))
    data = encode_png(tile(list(clip), columns=columns))
    with new_file(path) as file:
        file.write(data)


def tile(images: list[Clip], *, columns: int, gap: int = 4) -> Clip:
    """Arrange images ``[H, W, 3]`` (uint8 RGB) of one size in rows of ``columns``, on white with ``gap`` pixels."""
    height, width = images[0].shape[:2]
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * (height + gap), index % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def encode_png(image: Clip) -> bytes:
    """Encode an image ``[H, W, 3]`` (uint8 RGB) as PNG."""
    av = load_av()
    codec: Any = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.time_base = image.shape[1], image.shape[0], "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
