"""Decoding with PyAV: a video file or a folder of images as RGB frames, already resized.

Only the wanted frames are kept, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

import re
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import MissingDependencyError, VideoError

if TYPE_CHECKING:
    import av

__all__ = ["Frames", "ImageFolder", "VideoFile", "VideoWarning", "load_av"]

Frame = npt.NDArray[np.uint8]

_IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})

# Containers of pictures. What is not named is not opened: FFmpeg would make "video" of text, and
# playlists would make it open the files and addresses that they name.
_FORMATS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv,gif,apng,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,jpegls_pipe,bmp_pipe,webp_pipe,tiff_pipe,ppm_pipe,mjpeg"
)
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}


class VideoWarning(UserWarning):
    """A video that is damaged or ends early, but can be read."""


def load_av() -> Any:
    """PyAV.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingDependencyError("reading video needs PyAV", hint="pip install 'lcve-deploy[video]'") from error
    return av


class Frames(Protocol):
    """Frames of one source: how many there are, and those that are wanted."""

    def count(self) -> int:
        """Frames that the source says it has."""

    def take(self, wanted: set[int], short_side: int) -> tuple[dict[int, Frame], int]:
        """Decode the wanted frames, resized so that their shorter side has ``short_side`` pixels.

        Returns:
            Frames ``[H, W, 3]`` (uint8 RGB) by index, and the number of frames up to the last good one:
            fewer than the largest wanted index where the source ends early.
        """


class VideoFile:
    """A video file of any container and codec that FFmpeg reads.

    Raises:
        VideoError: empty, damaged, not a video, or without a video stream.
    """

    def __init__(self, path: Path) -> None:
        if path.stat().st_size == 0:
            raise VideoError(f"{path} is empty")
        self._path = path
        with self._open():
            pass

    def count(self) -> int:
        """Packets of the video stream, one a frame; read without decoding."""
        with self._open() as (container, stream):
            return sum(1 for packet in _until_broken(container.demux(stream)) if packet.size)

    def take(self, wanted: set[int], short_side: int) -> tuple[dict[int, Frame], int]:
        """Decode up to the last wanted frame; the next good frame stands in for a damaged one."""
        due, taken, seen, good, damaged = deque(sorted(wanted)), dict[int, Frame](), 0, 0, 0
        with self._open() as (container, stream):
            stream.thread_type = "AUTO"
            for frame in _frames(container, stream):
                seen += 1
                if frame is None:
                    damaged += 1
                    continue
                good = seen
                while due and due[0] < seen:
                    taken[due.popleft()] = _resized(frame, short_side)
                if not due:
                    break
        if damaged:
            warnings.warn(f"{self._path}: {damaged} damaged frames were passed over", VideoWarning, stacklevel=2)
        return taken, good

    def _open(self) -> _Opened:
        return _Opened(self._path)


def _until_broken(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets up to the end of the file, or to where its container breaks off."""
    av = load_av()
    try:
        yield from packets
    except av.error.FFmpegError:
        return


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Decoded frames in order; None for a packet that cannot be decoded."""
    av = load_av()
    for packet in _until_broken(container.demux(stream)):
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            decoded = [None]
        yield from decoded


class _Opened:
    """A container and its video stream, closed at the end of a ``with`` block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        av = load_av()
        try:
            # An absolute path cannot be taken for an address, and no file may name one.
            self._container = av.open(str(self._path.resolve()), options=_OPTIONS)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(
                f"{self._path} cannot be read as a video: damaged, or another kind of file ({error.strerror})"
            ) from None
        stream = next((s for s in self._container.streams.video if not _is_cover(s, av)), None)
        if stream is None:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            self._container.close()
            raise VideoError(f"{self._path} has no video stream, only: {kinds}")
        return self._container, stream

    def __exit__(self, *exception: object) -> None:
        self._container.close()


class ImageFolder:
    """A folder of images, one a frame, in the order of their names; numbers count as numbers.

    Raises:
        VideoError: the folder has no images.
    """

    def __init__(self, path: Path) -> None:
        self._files = sorted((file for file in path.iterdir() if file.suffix.lower() in _IMAGES), key=_natural)
        if not self._files:
            raise VideoError(f"{path} has no images ({', '.join(sorted(_IMAGES))})")

    def count(self) -> int:
        """Images in the folder."""
        return len(self._files)

    def take(self, wanted: set[int], short_side: int) -> tuple[dict[int, Frame], int]:
        """Read the wanted images."""
        return {index: _image(self._files[index], short_side) for index in wanted}, len(self._files)


def _natural(path: Path) -> list[str | int]:
    """Sort key under which frame2 comes before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _image(path: Path, short_side: int) -> Frame:
    av = load_av()
    try:
        with av.open(str(path.resolve()), options=_OPTIONS) as container:
            return _resized(next(container.decode(video=0)), short_side)
    except (av.error.FFmpegError, StopIteration, IndexError):
        raise VideoError(f"{path} cannot be read as an image") from None


def _resized(frame: Any, short_side: int) -> Frame:
    """RGB, upright, with the shorter side at ``short_side`` (bilinear, aspect kept)."""
    scale = short_side / min(frame.width, frame.height)
    width, height = (max(short_side, round(size * scale)) for size in (frame.width, frame.height))
    rgb: Frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray()
    return np.rot90(rgb, _quarter_turns(frame.rotation))


def _quarter_turns(degrees: int) -> int:
    """Quarter turns, against the clock, that the display matrix asks for."""
    return round(degrees / 90) % 4


def _is_cover(stream: Any, av: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
