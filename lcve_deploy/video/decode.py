"""Decode video with PyAV: restrict formats and sizes, and convert frames to upright, resized RGB."""

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
    "CODEC_OPTIONS",
    "MAX_FRAMES",
    "MAX_FRAME_PIXELS",
    "MAX_KEPT_BYTES",
    "MJPEG_SUFFIXES",
    "Frames",
    "Input",
    "OpenInput",
    "VideoWarning",
    "decoded",
    "file_input",
    "load_av",
    "pixel_note",
    "require_one_size",
    "standard_input",
    "to_rgb",
]

MAX_FRAME_PIXELS: Final = 2**26
"""Maximum pixels of a frame before it is resized: twice 8K video (7680 x 4320)."""
MAX_FRAMES: Final = 10_000_000
"""Maximum frames of a video, or images in a folder: 46 hours at 60 frames per second."""
MAX_KEPT_BYTES: Final = 2**32
"""Maximum bytes of all resized frames of one video that are in memory at the same time."""

MJPEG_SUFFIXES: Final = frozenset({".mjpg", ".mjpeg"})
"""Suffixes of motion JPEG: a sequence of JPEG pictures, which starts like a single one."""

Frame = npt.NDArray[np.uint8]

# Allowed container formats. FFmpeg would render text as video, and follow the paths and addresses in a playlist.
_FORMATS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv,gif,apng,"
    "yuv4mpegpipe,mjpeg"
)
CODEC_OPTIONS: Final = {"max_pixels": str(MAX_FRAME_PIXELS)}
"""FFmpeg options of every decoder."""
_OPTIONS: Final = {"protocol_whitelist": "file", "format_whitelist": _FORMATS, **CODEC_OPTIONS}


_INTERPOLATIONS: Final = {
    Resample.NEAREST: "POINT",
    Resample.BILINEAR: "BILINEAR",
    Resample.BICUBIC: "BICUBIC",
    Resample.LANCZOS: "LANCZOS",
}
"""Names of FFmpeg's scaler."""


class VideoWarning(UserWarning):
    """A remark on a video that was read, for example that it is damaged or too short."""


def load_av() -> Any:
    """Import PyAV.

    Raises:
        MissingDependencyError: PyAV is not installed.
    """
    with require("reading video needs PyAV", extra="video"):
        import av
    return av


@dataclass(frozen=True, kw_only=True)
class Input:
    """Arguments for opening a source with PyAV.

    Args:
        name: name of the source in messages; contains no secret.
        address: path or address for FFmpeg; may contain a password.
        format: FFmpeg's name of the container format; None to detect it.
        options: FFmpeg options, which restrict protocols and formats.
        timeout: maximum seconds for opening, and for each packet; None for no limit.
        failure: message if it cannot be opened, after the name.
    """

    name: str
    address: str = field(repr=False)
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: _OPTIONS)
    timeout: float | None = None
    failure: str = "cannot be read as a video or image: damaged, or another kind of file"


def file_input(path: Path) -> Input:
    """Return the input for a video file or an image, with a path that FFmpeg cannot mistake for an address."""
    return Input(name=str(path), address=str(path.absolute()), format=_format(path))


def standard_input() -> Input:
    """Return a video on standard input, which is decoded while it arrives."""
    return Input(name="standard input", address="pipe:0", options={**_OPTIONS, "protocol_whitelist": "pipe"})


def _format(path: Path) -> str | None:
    """Return the format of motion JPEG, which FFmpeg would read as one picture; None for all other files."""
    if path.suffix.lower() not in MJPEG_SUFFIXES:
        return None
    with path.open("rb") as file:
        return "mjpeg" if file.read(2) == b"\xff\xd8" else None


class Frames(Protocol):
    """Frames of a finite source, accessed by index.

    Attributes:
        notes: remarks on the frames; complete after ``take``.
    """

    notes: tuple[str, ...]

    def count(self) -> int:
        """Return the number of frames, as far as it is known."""

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame] | None:
        """Decode frames, upright and resized according to ``preprocess``.

        Returns:
            Frames (uint8 RGB, ``[H, W, 3]``) by index; None if the number of frames turned out to be wrong. ``count``
            is correct from then on.
        """


def decoded(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield decoded frames in order, and None for each packet that cannot be decoded."""
    av = load_av()
    for packet in packets:
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = [None]
        yield from frames


class OpenInput:
    """Open a source; a context manager that returns its container and its video stream.

    Raises:
        VideoError: the source cannot be opened, or has no video stream that can be decoded within the limits.
    """

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
        except (av.error.FFmpegError, OSError) as error:  # its message would show the address
            raise VideoError(f"{self._source.name} {self._source.failure} ({error.strerror})") from None
        try:
            return self._container, self._stream(av)
        except VideoError:
            self._container.close()
            raise

    def _stream(self, av: Any) -> Any:
        """Return the main video stream; its decoder refuses frames that are too large before it allocates them."""
        stream = _main_stream(self._container.streams.video, av)
        if stream is None:
            covers = {"a cover picture"} if self._container.streams.video else set()
            others = {s.type for s in self._container.streams if s.type != "video"}
            kinds = ", ".join([*sorted(others), *covers]) or "nothing"
            raise VideoError(f"{self._source.name} has no video stream, only: {kinds}")
        if stream.disposition & av.stream.Disposition.dependent:
            raise VideoError(
                f"{self._source.name} is a picture stored in tiles, which is not supported",
                hint="convert it to JPEG or PNG",
            )
        if stream.codec_context is None:
            raise VideoError(f"{self._source.name} has a video stream for which this FFmpeg has no decoder")
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_FRAME_PIXELS:
            raise VideoError(
                f"expected frames of at most {MAX_FRAME_PIXELS} pixels, received {width} x {height}: "
                f"{self._source.name}"
            )
        stream.codec_context.options = dict(CODEC_OPTIONS)
        return stream

    def __exit__(self, *exception: object) -> None:
        self._container.close()


def to_rgb(
    frame: Any, preprocess: Preprocess, kept: int, path: Path | str, orientation: Orientation | None = None
) -> Frame:
    """Convert a frame to upright, resized RGB.

    Args:
        frame: frame of PyAV.
        preprocess: determines the size.
        kept: number of frames that the caller keeps at the same time.
        path: source of the frame, for messages.
        orientation: orientation of the frame; by default from its display matrix.

    Returns:
        uint8 ``[H, W, 3]``.

    Raises:
        VideoError: the frame is so narrow that the resized frames would exceed ``MAX_KEPT_BYTES``, or its pixel format
            cannot be converted to RGB.
    """
    av = load_av()
    upright = orientation or frame_orientation(frame)
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
        raise VideoError(f"a frame of {path} cannot be converted to RGB: {error}") from None
    return upright.apply(rgb)


def require_one_size(first: tuple[Path | str, tuple[int, int]], other: tuple[Path | str, tuple[int, int]]) -> None:
    """Check that two upright frames, each with its name and (width, height), have the same size.

    Raises:
        VideoError: the sizes differ.
    """
    if first[1] != other[1]:
        raise VideoError(
            f"the frames have different sizes: {first[0]} has {first[1][0]} x {first[1][1]}, "
            f"{other[0]} has {other[1][0]} x {other[1][1]}",
            hint="make all frames the same size",
        )


def pixel_note(ratio: Any) -> list[str]:
    """Return the note on pixels that are not square, if they are not.

    Args:
        ratio: width of a pixel divided by its height, a fraction; None or 0 if it is not known.
    """
    if not ratio or ratio == 1:
        return []
    return [f"pixels are not square ({ratio.numerator}:{ratio.denominator}); stored pixels are used, as in training"]


def _main_stream(streams: Any, av: Any) -> Any:
    """Return the first stream that is not a cover picture, and of several preferably one with more than one frame."""
    candidates = [stream for stream in streams if not _is_cover(stream, av)]
    return next((stream for stream in candidates if stream.frames != 1), next(iter(candidates), None))


def _is_cover(stream: Any, av: Any) -> bool:
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return bool(stream.disposition & covers)
