"""Decoding with PyAV: a video file or a folder of images as RGB frames, already resized.

Only the wanted frames are kept, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

import re
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import MissingDependencyError, VideoError
from lcve_deploy.inputs import require_file

if TYPE_CHECKING:
    import av

__all__ = [
    "LARGEST_FRAME",
    "MOST_FRAMES",
    "MOST_KEPT_BYTES",
    "OF_CODECS",
    "Frames",
    "ImageFolder",
    "Input",
    "Opened",
    "VideoFile",
    "VideoWarning",
    "decoded",
    "file_input",
    "load_av",
    "resized",
]

LARGEST_FRAME: Final = 2**26
"""Pixels of a frame before it is resized: twice those of 8K video (7680 x 4320)."""
MOST_FRAMES: Final = 10_000_000
"""Frames of a video, or images in a folder: those of 46 hours at 60 a second."""
MOST_KEPT_BYTES: Final = 2**32
"""Bytes of all frames that are kept of one video, after they are resized."""

Frame = npt.NDArray[np.uint8]

_IMAGES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})

# Containers of pictures. What is not named is not opened: FFmpeg would make "video" of text, and
# playlists would make it open the files and addresses that they name.
_FORMATS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv,gif,apng,"
    "yuv4mpegpipe,png_pipe,jpeg_pipe,jpegls_pipe,bmp_pipe,webp_pipe,tiff_pipe,ppm_pipe,mjpeg"
)
OF_CODECS: Final = {"max_pixels": str(LARGEST_FRAME)}
"""Options of every decoder, as FFmpeg takes them."""
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, **OF_CODECS}


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


@dataclass(frozen=True, kw_only=True)
class Input:
    """What PyAV opens.

    Args:
        name: under which it is shown in errors; holds nothing secret.
        address: as FFmpeg takes it; may hold a password.
        format: of FFmpeg; None for what the file turns out to be.
        options: of FFmpeg, with what may be opened at all.
        timeout: seconds that opening, and then each packet, may take; None for no limit.
        failure: what is said of it where it cannot be opened.
    """

    name: str
    address: str = field(repr=False)
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: _OPTIONS)
    timeout: float | None = None
    failure: str = "cannot be read as a video or image: damaged, or another kind of file"


def file_input(path: Path) -> Input:
    """A video file or an image, by a path that FFmpeg cannot take for an address."""
    return Input(name=str(path), address=str(path.resolve()))


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
        VideoError: empty, damaged, not a video, without a video stream, or with frames beyond the limit.
    """

    def __init__(self, path: Path) -> None:
        if require_file(path, "a video", VideoError) == 0:
            raise VideoError(f"{path} is empty")
        self._path = path
        with self._open():
            pass

    def count(self) -> int:
        """Packets of the video stream, one a frame; read without decoding.

        Raises:
            VideoError: more than ``MOST_FRAMES``.
        """
        count = 0
        with self._open() as (container, stream):
            for index, packet in enumerate(_until_broken(container.demux(stream))):
                if index > MOST_FRAMES:
                    raise VideoError(f"{self._path} has more than {MOST_FRAMES} frames", hint="cut it into parts")
                count += bool(packet.size)
        return count

    def take(self, wanted: set[int], short_side: int) -> tuple[dict[int, Frame], int]:
        """Decode up to the last wanted frame; the next good frame stands in for a damaged one."""
        due, taken, seen, good, damaged = deque(sorted(wanted)), dict[int, Frame](), 0, 0, 0
        with self._open() as (container, stream):
            stream.thread_type = "AUTO"
            for frame in decoded(_until_broken(container.demux(stream))):
                seen += 1
                if frame is None:
                    damaged += 1
                    continue
                good = seen
                while due and due[0] < seen:
                    taken[due.popleft()] = resized(frame, short_side, len(wanted), self._path)
                if not due:
                    break
        if damaged:
            warnings.warn(f"{self._path}: {damaged} damaged frames were passed over", VideoWarning, stacklevel=2)
        return taken, good

    def _open(self) -> Opened:
        return Opened(file_input(self._path))


def _until_broken(packets: Iterator[Any]) -> Iterator[Any]:
    """Packets up to the end of the file, or to where its container breaks off."""
    av = load_av()
    try:
        yield from packets
    except av.error.FFmpegError:
        return


def decoded(packets: Iterator[Any]) -> Iterator[Any]:
    """Decoded frames in order; None for a packet that cannot be decoded."""
    av = load_av()
    for packet in packets:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = [None]
        yield from frames


class Opened:
    """A container and its video stream, closed at the end of a ``with`` block."""

    def __init__(self, source: Input) -> None:
        self._source = source

    def __enter__(self) -> tuple[av.container.InputContainer, av.VideoStream]:
        av = load_av()
        try:
            self._container = av.open(
                self._source.address,
                format=self._source.format,
                options=dict(self._source.options),
                timeout=self._source.timeout,
                metadata_errors="replace",
            )
        except (av.error.FFmpegError, OSError) as error:  # its own text would show the address
            raise VideoError(f"{self._source.name} {self._source.failure} ({error.strerror})") from None
        try:
            return self._container, self._stream(av)
        except VideoError:
            self._container.close()
            raise

    def _stream(self, av: Any) -> Any:
        """The first video stream, with a decoder that refuses what is too large before it takes memory."""
        stream = next((s for s in self._container.streams.video if not _is_cover(s, av)), None)
        if stream is None:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            raise VideoError(f"{self._source.name} has no video stream, only: {kinds}")
        if stream.codec_context is None:
            raise VideoError(f"{self._source.name} has a video stream that this FFmpeg has no decoder for")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > LARGEST_FRAME:
            raise VideoError(
                f"frames have at most {LARGEST_FRAME} pixels, received {width} x {height}: {self._source.name}"
            )
        stream.codec_context.options = dict(OF_CODECS)
        return stream

    def __exit__(self, *exception: object) -> None:
        self._container.close()


class ImageFolder:
    """A folder of images, one a frame, in the order of their names; numbers count as numbers.

    Raises:
        VideoError: the folder has no images, or too many.
    """

    def __init__(self, path: Path) -> None:
        self._files = sorted((file for file in path.iterdir() if file.suffix.lower() in _IMAGES), key=_natural)
        if not self._files:
            raise VideoError(f"{path} has no images ({', '.join(sorted(_IMAGES))})")
        if len(self._files) > MOST_FRAMES:
            raise VideoError(f"{path} has more than {MOST_FRAMES} images")

    def count(self) -> int:
        """Images in the folder."""
        return len(self._files)

    def take(self, wanted: set[int], short_side: int) -> tuple[dict[int, Frame], int]:
        """Read the wanted images."""
        images = {index: _image(self._files[index], short_side, len(wanted)) for index in wanted}
        return images, len(self._files)


def _natural(path: Path) -> list[str | int]:
    """Sort key under which frame2 comes before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def _image(path: Path, short_side: int, kept: int) -> Frame:
    av = load_av()
    require_file(path, "an image", VideoError)
    try:
        with Opened(file_input(path)) as (container, stream):
            return resized(next(container.decode(stream)), short_side, kept, path)
    except (av.error.FFmpegError, StopIteration):
        raise VideoError(f"{path} cannot be read as an image") from None


def resized(frame: Any, short_side: int, kept: int, path: Path | str) -> Frame:
    """RGB, upright, with the shorter side at ``short_side`` (bilinear, aspect kept).

    Args:
        frame: of PyAV.
        short_side: pixels.
        kept: frames that are kept at the same time.
        path: where it is from.

    Raises:
        VideoError: a frame so narrow that what is kept would go beyond ``MOST_KEPT_BYTES``, or one
            of a kind that cannot be made RGB.
    """
    av = load_av()
    scale = short_side / min(frame.width, frame.height)
    width, height = (max(short_side, round(size * scale)) for size in (frame.width, frame.height))
    if width * height * 3 * kept > MOST_KEPT_BYTES:
        raise VideoError(
            f"{kept} frames of {frame.width} x {frame.height}, resized to {width} x {height}, would take more than "
            f"{MOST_KEPT_BYTES} bytes: {path}"
        )
    try:
        rgb: Frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="BILINEAR").to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"a frame of {path} cannot be made RGB: {error}") from None
    return np.rot90(rgb, _quarter_turns(frame.rotation))


def _quarter_turns(degrees: int) -> int:
    """Quarter turns, against the clock, that the display matrix asks for."""
    return round(degrees / 90) % 4


def _is_cover(stream: Any, av: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
