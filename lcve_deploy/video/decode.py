"""Decoding with PyAV: what may be opened, how large frames may be, and how they become RGB, upright and resized."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import VideoError
from lcve_deploy.libraries.requiring import require
from lcve_deploy.model.preprocess import Preprocess, Resample
from lcve_deploy.video.orientation import Orientation, frame_orientation

if TYPE_CHECKING:
    import av

__all__ = [
    "MAX_FRAMES",
    "MAX_FRAME_PIXELS",
    "MAX_KEPT_BYTES",
    "OF_CODECS",
    "STREAMS_OF_JPEG",
    "Frames",
    "Input",
    "Opened",
    "VideoWarning",
    "decoded",
    "file_input",
    "load_av",
    "pixel_note",
    "require_one_size",
    "resized",
    "standard_input",
]

MAX_FRAME_PIXELS: Final = 2**26
"""Pixels of a frame before it is resized: twice those of 8K video (7680 x 4320)."""
MAX_FRAMES: Final = 10_000_000
"""Frames of a video, or images in a folder: those of 46 hours at 60 a second."""
MAX_KEPT_BYTES: Final = 2**32
"""Bytes of all frames that are kept of one video, after they are resized."""

STREAMS_OF_JPEG: Final = frozenset({".mjpg", ".mjpeg"})
"""Suffixes of videos that begin like a JPEG: many of them, one after another."""

Frame = npt.NDArray[np.uint8]

# Containers of pictures. What is not named is not opened: FFmpeg would make "video" of text, and
# playlists would make it open the files and addresses that they name.
_FORMATS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv,gif,apng,"
    "yuv4mpegpipe,mjpeg"
)
OF_CODECS: Final = {"max_pixels": str(MAX_FRAME_PIXELS)}
"""Options of every decoder, as FFmpeg takes them."""
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, **OF_CODECS}


_INTERPOLATIONS: Final = {
    Resample.NEAREST: "POINT",
    Resample.BILINEAR: "BILINEAR",
    Resample.BICUBIC: "BICUBIC",
    Resample.LANCZOS: "LANCZOS",
}
"""As FFmpeg's scaler calls them."""


class VideoWarning(UserWarning):
    """A video that is damaged or ends early, but can be read."""


def load_av() -> Any:
    """PyAV.

    Raises:
        MissingDependencyError: it is not installed.
    """
    with require("reading video needs PyAV", extra="video"):
        import av
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
    return Input(name=str(path), address=str(path.absolute()), format=_format(path))


def standard_input() -> Input:
    """Return a video on standard input, which is decoded while it arrives."""
    return Input(name="standard input", address="pipe:0", options={**_OPTIONS, "protocol_whitelist": "pipe"})


def _format(path: Path) -> str | None:
    """FFmpeg takes a file of many JPEGs for one picture unless it is told; None for all other files."""
    if path.suffix.lower() not in STREAMS_OF_JPEG:
        return None
    with path.open("rb") as file:
        return "mjpeg" if file.read(2) == b"\xff\xd8" else None


class Frames(Protocol):
    """Frames of one source: how many there are, and those that are wanted.

    Attributes:
        notes: what must be said of them, after frames have been taken.
    """

    notes: tuple[str, ...]

    def count(self) -> int:
        """Frames that the source has, as far as it is known."""

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame] | None:
        """Decode the wanted frames, upright and resized as ``preprocess`` says.

        Returns:
            Frames ``[H, W, 3]`` (uint8 RGB) by index; None where the count has turned out to be wrong, and is
            right now.
        """


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
        stream = _moving(self._container.streams.video, av)
        if stream is None:
            covers = {"a cover picture"} if self._container.streams.video else set()
            others = {s.type for s in self._container.streams if s.type != "video"}
            kinds = ", ".join([*sorted(others), *covers]) or "nothing"
            raise VideoError(f"{self._source.name} has no video stream, only: {kinds}")
        if stream.disposition & av.stream.Disposition.dependent:
            raise VideoError(
                f"{self._source.name} is a picture that is stored in tiles, which this version cannot read",
                hint="convert it to JPEG or PNG",
            )
        if stream.codec_context is None:
            raise VideoError(f"{self._source.name} has a video stream that this FFmpeg has no decoder for")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_FRAME_PIXELS:
            raise VideoError(
                f"frames have at most {MAX_FRAME_PIXELS} pixels, received {width} x {height}: {self._source.name}"
            )
        stream.codec_context.options = dict(OF_CODECS)
        return stream

    def __exit__(self, *exception: object) -> None:
        self._container.close()


def resized(
    frame: Any, preprocess: Preprocess, kept: int, path: Path | str, turned: Orientation | None = None
) -> Frame:
    """RGB, upright, and resized.

    Args:
        frame: of PyAV.
        preprocess: with the size to be.
        kept: frames that are kept at the same time.
        path: where it is from.
        turned: how it is turned upright; by default as its display matrix says.

    Raises:
        VideoError: a frame so narrow that what is kept would go beyond ``MAX_KEPT_BYTES``, or one
            of a kind that cannot be made RGB.
    """
    av = load_av()
    upright = turned or frame_orientation(frame)
    shown_width, shown_height = upright.size(frame.width, frame.height)
    rows, columns = preprocess.resized_size(shown_height, shown_width)
    width, height = upright.size(columns, rows)
    if width * height * 3 * kept > MAX_KEPT_BYTES:
        raise VideoError(
            f"{kept} frames of {frame.width} x {frame.height}, resized to {width} x {height}, would take more than "
            f"{MAX_KEPT_BYTES} bytes: {path}"
        )
    kind = _INTERPOLATIONS[preprocess.resample]
    try:
        rgb: Frame = frame.reformat(width=width, height=height, format="rgb24", interpolation=kind).to_ndarray()
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"a frame of {path} cannot be made RGB: {error}") from None
    return upright.apply(rgb)


def require_one_size(first: tuple[Path | str, tuple[int, int]], other: tuple[Path | str, tuple[int, int]]) -> None:
    """Check that two frames, each with its name, have the same width and height as shown.

    Raises:
        VideoError: they have not; names both.
    """
    if first[1] != other[1]:
        raise VideoError(
            f"the frames have different sizes: {first[0]} has {first[1][0]} x {first[1][1]}, "
            f"{other[0]} has {other[1][0]} x {other[1][1]}",
            hint="make all frames the same size",
        )


def pixel_note(ratio: Any) -> list[str]:
    """The note if pixels are not square.

    Args:
        ratio: width to height of a pixel; None or 0 if it is not known.
    """
    if not ratio or ratio == 1:
        return []
    return [f"pixels are not square ({ratio.numerator}:{ratio.denominator}); stored pixels are used, as in training"]


def _moving(streams: Any, av: Any) -> Any:
    """The first stream that is no cover, and no single picture next to a moving stream; None if there is none."""
    shown = [stream for stream in streams if not _is_cover(stream, av)]
    return next((stream for stream in shown if stream.frames != 1), next(iter(shown), None))


def _is_cover(stream: Any, av: Any) -> bool:
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return bool(stream.disposition & covers)
