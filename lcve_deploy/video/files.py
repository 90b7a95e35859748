"""Frames of a video file, by their index, also where packets are damaged or hold no frame.

Only the wanted frames are kept, so that memory does not grow with the length of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import require_file
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video.decode import (
    MAX_FRAMES,
    Frame,
    Opened,
    file_input,
    load_av,
    pixel_note,
    require_one_size,
    resized,
)
from lcve_deploy.video.orientation import frame_orientation
from lcve_deploy.video.survey import MAX_DEPTH, Survey

__all__ = ["VideoFile"]

_SLACK_SECONDS: Final = 0.25
"""By which a file may be shorter than it says."""


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
            VideoError: more than ``MAX_FRAMES``.
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

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame] | None:
        """Decode up to the last wanted frame; the next good frame stands in for a damaged one."""
        due, taken = deque(sorted(wanted)), dict[int, Frame]()
        first: tuple[str, tuple[int, int]] | None = None
        mended = 0
        for index, frame in self._indexed():
            mended += frame.is_corrupt
            while due and due[0] <= index:
                turned = frame_orientation(frame)
                here = f"frame {index} of {self._path}", turned.size(frame.width, frame.height)
                first = first or here
                picture = resized(frame, preprocess, len(wanted), self._path, turned)
                if taken and picture.shape != taken[min(taken)].shape:
                    require_one_size(first, here)
                taken[due.popleft()] = picture
            if not due:
                self.notes += _mended_note(mended)
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
                if frame is None or (index == 0 and number) or min(missing, default=number) < number - 2 * MAX_DEPTH:
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
            if number >= MAX_FRAMES:
                raise VideoError(f"{self._path} has more than {MAX_FRAMES} frames", hint="cut it into parts")
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


def _mended_note(count: int) -> tuple[str, ...]:
    """The note on frames that the decoder only partly reconstructed. Frames predicted from them are affected too."""
    if not count:
        return ()
    what = (
        "1 frame is damaged and used as the decoder filled it in"
        if count == 1
        else (f"{count} frames are damaged and used as the decoder filled them in")
    )
    return (f"{what}; later frames may be affected",)


def _promised(container: Any, stream: Any) -> float:
    """Seconds that a file says it lasts. FFmpeg shortens an AVI's to the bytes it has, but not its frames."""
    seconds: float = container.duration / 1e6
    if container.format.name != "avi" or not stream.average_rate:
        return seconds
    return max(seconds, float(stream.frames / stream.average_rate))


def _length_note(container: Any, stream: Any, count: int, last: Fraction) -> list[str]:
    """The note on a file that seems to be cut off.

    Args:
        container: of the file.
        stream: of its pictures.
        count: frames that it has.
        last: seconds up to the end of the last one, by the times of the file.
    """
    missing = stream.frames > count if stream.frames else len(container.streams) == 1
    if not (missing and container.duration):
        return []
    promised, end = _promised(container, stream), float(last) - min(container.start_time or 0, 0) / 1e6
    if end >= promised - _SLACK_SECONDS:
        return []
    return [f"the file says that it lasts {promised:.1f} s, but has frames only up to {end:.1f} s: it may be cut off"]
