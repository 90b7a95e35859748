"""Bytes and decoded clips of codecs, which see the plain clip: lower bounds without privacy, and JPEG's kind."""

from __future__ import annotations

import importlib
import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Clip = npt.NDArray[np.uint8]
Coded = tuple[int, npt.NDArray[Any]]
"""Bytes without a container, and the decoded clip."""

__all__ = ["CODECS", "H264_QUALITIES", "h264", "psnr"]


def psnr(clip: Clip, decoded: npt.NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio over all values, in dB; infinite if all are the same."""
    error = float(np.mean((decoded.astype(np.float64) - clip) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def _of_av(clip: Clip, codec: str, pixels: str, options: dict[str, str]) -> Coded:
    """Encode and decode frames with FFmpeg."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=15, options=options)
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], pixels
        size = 0
        for packet in _packets(stream, clip):
            size += packet.size
            container.mux(packet)
    file.seek(0)
    with av.open(file, "r") as decoded:
        frames = [frame.to_ndarray(format="rgb24") for frame in decoded.decode(video=0)]
    return size, np.stack(frames)


def _packets(stream: Any, clip: Clip) -> Iterator[Any]:
    import av

    for frame in clip:
        yield from stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24"))
    yield from stream.encode(None)


def h264(clip: Clip, quality: float) -> Coded:
    """Encode and decode with x264, 4:4:4, preset medium; the quality is the constant rate factor."""
    return _of_av(clip, "libx264", "yuv444p", {"crf": f"{quality:g}", "preset": "medium"})


def _mjpeg(clip: Clip, quality: float) -> Coded:
    size = f"{quality:g}"
    return _of_av(clip, "mjpeg", "yuvj444p", {"qmin": size, "qmax": size, "flags": "+qscale", "global_quality": size})


def _jpeg_xl(clip: Clip, quality: float) -> Coded:
    imagecodecs: Any = importlib.import_module("imagecodecs")
    coded = [imagecodecs.jpegxl_encode(frame, distance=quality, effort=3) for frame in clip]
    return sum(map(len, coded)), np.stack([imagecodecs.jpegxl_decode(frame) for frame in coded])


H264_QUALITIES = (12, 15, 18, 21, 24, 27, 30, 33, 36)
"""Constant rate factors."""
CODECS: Mapping[str, tuple[Callable[[Clip, float], Coded], tuple[float, ...]]] = {
    "plain H.264, x264 medium 4:4:4": (h264, H264_QUALITIES),
    "plain MJPEG 4:4:4": (_mjpeg, (2, 3, 4, 5, 6, 8, 10, 13, 17, 22)),
    "plain JPEG XL, effort 3": (_jpeg_xl, (0.3, 0.5, 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.0)),
}
