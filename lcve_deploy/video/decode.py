"""Decoding with PyAV: a video file as RGB frames, already resized.

Only the wanted frames are kept, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import MissingDependencyError, VideoError
from lcve_deploy.inputs import require_file
from lcve_deploy.video.orientation import Orientation, frame_orientation
from lcve_deploy.video.survey import DEEPEST, Survey

if TYPE_CHECKING:
    import av

__all__ = [
    "LARGEST_FRAME",
    "MOST_FRAMES",
    "MOST_KEPT_BYTES",
    "OF_CODECS",
    "Frames",
    "Input",
    "Opened",
    "VideoFile",
    "VideoWarning",
    "decoded",
    "file_input",
    "load_av",
    "pixel_note",
    "require_one_size",
    "resized",
]

LARGEST_FRAME: Final = 2**26
"""Pixels of a frame before it is resized: twice those of 8K video (7680 x 4320)."""
MOST_FRAMES: Final = 10_000_000
"""Frames of a video, or images in a folder: those of 46 hours at 60 a second."""
MOST_KEPT_BYTES: Final = 2**32
"""Bytes of all frames that are kept of one video, after they are resized."""

Frame = npt.NDArray[np.uint8]

# Containers of pictures. What is not named is not opened: FFmpeg would make "video" of text, and
# playlists would make it open the files and addresses that they name.
_FORMATS: Final = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,ivf,flv,asf,ogg,mxf,nut,dv,gif,apng,"
    "yuv4mpegpipe,mjpeg"
)
_SLACK_SECONDS: Final = 0.25
"""By which a file may be shorter than it says."""
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
    """Frames of one source: how many there are, and those that are wanted.

    Attributes:
        notes: what must be said of them, after frames have been taken.
    """

    notes: tuple[str, ...]

    def count(self) -> int:
        """Frames that the source has, as far as it is known."""

    def take(self, wanted: set[int], short_side: int) -> dict[int, Frame] | None:
        """Decode the wanted frames, upright and resized so that their shorter side has ``short_side`` pixels.

        Returns:
            Frames ``[H, W, 3]`` (uint8 RGB) by index; None where the count has turned out to be wrong, and is
            right now.
        """


class VideoFile:
    """A video file of any container and codec that FFmpeg reads.

    The first attempt takes packets and frames to be one to one, as they nearly always are. Where they are not, the
    whole video is decoded once to find out which frames there are.

    Attributes:
        notes: what must be said of it, after frames have been taken.

    Raises:
        VideoError: empty, damaged, not a video, without a video stream, or with frames beyond the limit.
    """

    def __init__(self, path: Path) -> None:
        if require_file(path, "a video", VideoError) == 0:
            raise VideoError(f"{path} is empty")
        self._path = path
        self.notes: tuple[str, ...] = ()
        self._survey: Survey | None = None
        self._length_note: list[str] = []
        with self._open():
            pass

    def count(self) -> int:
        """Frames of the video: packets of its stream that are shown, read without decoding, or those of the survey.

        Raises:
            VideoError: more than ``MOST_FRAMES``.
        """
        if self._survey is not None:
            return max(self._survey.indices(), default=-1) + 1
        count, last = 0, Fraction(0)
        with self._open() as (container, stream):
            for number, packet in self._numbered(container, stream):
                if packet.pts is not None and packet.time_base is not None:
                    last = max(last, (packet.pts + (packet.duration or 0)) * packet.time_base)
                count += number is not None
            self._length_note = _length_note(container, stream, count, last)
        return count

    def take(self, wanted: set[int], short_side: int) -> dict[int, Frame] | None:
        """Decode up to the last wanted frame; the next good frame stands in for a damaged one."""
        due, taken = deque(sorted(wanted)), dict[int, Frame]()
        first: tuple[str, tuple[int, int]] | None = None
        for index, frame in self._indexed():
            while due and due[0] <= index:
                turned = frame_orientation(frame)
                here = f"frame {index} of {self._path}", turned.size(frame.width, frame.height)
                first = first or here
                picture = resized(frame, short_side, len(wanted), self._path, turned)
                if taken and picture.shape != taken[min(taken)].shape:
                    require_one_size(first, here)
                taken[due.popleft()] = picture
            if not due:
                return taken
        if self._survey is None:
            self._survey = self._surveyed()
        return None

    def _indexed(self) -> Iterator[tuple[int, Any]]:
        """Decoded frames with their indices; ends early where packets and frames turn out not to be one to one."""
        with self._open() as (container, stream):
            self.notes = (*pixel_note(stream.sample_aspect_ratio), *self._length_note)
            if self._survey is not None:
                self.notes += tuple(self._survey.notes())
                stream.thread_type = "SLICE"
                frames = (frame for _, frame in self._decoded(container, stream) if frame is not None)
                yield from zip(self._survey.indices(), frames, strict=False)
                return
            stream.thread_type = "AUTO"
            missing, read = set[int](), 0
            for index, (number, frame) in enumerate(self._decoded(container, stream)):
                missing.update(range(read, number))
                read = max(read, number + 1)
                missing.discard(number)
                if frame is None or (index == 0 and number) or min(missing, default=number) < number - 2 * DEEPEST:
                    return
                yield index, frame

    def _surveyed(self) -> Survey:
        """Decode the whole video, with no packets in flight, so that a failure is that of the packet before it."""
        times, shown, failed = dict[int, int | None](), list[int](), set[int]()
        with self._open() as (container, stream):
            stream.thread_type = "SLICE"
            for number, frame in self._decoded(container, stream, times):
                if frame is None:
                    failed.add(number)
                else:
                    shown.append(number)
        return Survey(times=list(times.values()), shown=shown, failed=failed - set(shown))

    def _decoded(
        self, container: Any, stream: Any, times: dict[int, int | None] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """Number of the packet and frame of everything that is decoded; None for what cannot be.

        Args:
            container: opened.
            stream: of it.
            times: gets the presentation times of the numbered packets.
        """
        av = load_av()
        for number, packet in self._numbered(container, stream):
            if number is not None:
                if times is not None:
                    times[number] = packet.pts
                packet.pts = number  # which decoders hand on to the frame
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if number is not None:
                    yield number, None
                continue
            yield from ((frame.pts, frame) for frame in frames)

    def _numbered(self, container: Any, stream: Any) -> Iterator[tuple[int | None, Any]]:
        """Packets in the order of the file, with numbers for those that are shown."""
        number, hidden = 0, _HIDDEN.get(stream.codec_context.name, _is_never)
        for packet in _until_broken(container.demux(stream)):
            if not packet.size or packet.is_discard or hidden(packet):
                yield None, packet
                continue
            if number >= MOST_FRAMES:
                raise VideoError(f"{self._path} has more than {MOST_FRAMES} frames", hint="cut it into parts")
            yield number, packet
            number += 1

    def _open(self) -> Opened:
        return Opened(file_input(self._path))


def _is_never(packet: Any) -> bool:
    return False


def _is_hidden_vp8(packet: Any) -> bool:
    """Whether a frame of VP8 is only there for others to be made from."""
    return not memoryview(packet)[0] & 0x10


_HIDDEN: Final[Mapping[str, Callable[[Any], bool]]] = {"vp8": _is_hidden_vp8}
"""By codec: packets whose frame is not shown."""


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
        stream = _moving(self._container.streams.video, av)
        if stream is None:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            raise VideoError(f"{self._source.name} has no video stream, only: {kinds}")
        if stream.disposition & av.stream.Disposition.dependent:
            raise VideoError(
                f"{self._source.name} is a picture that is stored in tiles, which cannot be read",
                hint="convert it to JPEG or PNG",
            )
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


def resized(frame: Any, short_side: int, kept: int, path: Path | str, turned: Orientation | None = None) -> Frame:
    """RGB, upright, with the shorter side at ``short_side`` (bilinear, aspect kept).

    Args:
        frame: of PyAV.
        short_side: pixels.
        kept: frames that are kept at the same time.
        path: where it is from.
        turned: how it is turned upright; by default as its display matrix says.

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
    return (turned or frame_orientation(frame)).apply(rgb)


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
    """What must be said where pixels are not square.

    Args:
        ratio: width to height of a pixel; None or 0 where it is not known.
    """
    if not ratio or ratio == 1:
        return []
    return [f"pixels are not square ({ratio.numerator}:{ratio.denominator}); stored pixels are taken, as in training"]


def _length_note(container: Any, stream: Any, count: int, last: Fraction) -> list[str]:
    """What must be said of a file that seems to be cut off.

    Args:
        container: of the file.
        stream: of its pictures.
        count: frames that it has.
        last: seconds up to the end of the last one, by the times of the file.
    """
    missing = stream.frames > count if stream.frames else len(container.streams) == 1
    if not (missing and container.duration):
        return []
    promised, end = container.duration / 1e6, float(last) - min(container.start_time or 0, 0) / 1e6
    if end >= promised - _SLACK_SECONDS:
        return []
    return [f"the file says that it lasts {promised:.1f} s, and has frames up to {end:.1f} s: it may be cut off"]


def _moving(streams: Any, av: Any) -> Any:
    """The first stream that is no cover, and no single picture beside a stream that moves; None where there is none."""
    shown = [stream for stream in streams if not _is_cover(stream, av)]
    return next((stream for stream in shown if stream.frames != 1), next(iter(shown), None))


def _is_cover(stream: Any, av: Any) -> bool:
    covers = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
    return bool(stream.disposition & covers)
