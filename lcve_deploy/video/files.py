"""Read frames of a video file by index, even if packets are damaged or contain no frame.

Only the requested frames are kept, so memory does not grow with the length of the video.
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
    OpenInput,
    file_input,
    load_av,
    pixel_note,
    require_one_size,
    to_rgb,
)
from lcve_deploy.video.orientation import frame_orientation
from lcve_deploy.video.survey import MAX_DEPTH, Survey

__all__ = ["VideoFile"]

_SLACK_SECONDS: Final = 0.25
"""A file may be this much shorter than the duration that it declares."""


class VideoFile:
    """A video file in an allowed container, with any codec that FFmpeg decodes.

    The first attempt assumes one frame per packet, which is nearly always true. If it is not, the whole video is
    decoded once to find its frames.

    Attributes:
        notes: remarks on the video; complete after ``take``.

    Raises:
        VideoError: the file is empty, damaged, or not a video; or it has no video stream, or frames that are too large.
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
        """Return the number of frames: from the survey if there is one, otherwise from packets, without decoding.

        Raises:
            VideoError: there are more than ``MAX_FRAMES``.
        """
        if self._survey is not None:
            return max(self._survey.indices(), default=-1) + 1
        count, end = 0, Fraction(0)
        with self._open() as (container, stream):
            for number, packet in self._numbered(container, stream):
                if packet.pts is not None and packet.time_base is not None:
                    end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
                count += number is not None
            self._length_note = _length_note(container, stream, count, end)
        return count

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame] | None:
        """Decode up to the last wanted frame; the next good frame replaces a damaged one.

        Raises:
            VideoError: frames have different sizes, or cannot be resized within the limits.
        """
        due, taken = deque(sorted(wanted)), dict[int, Frame]()
        first: tuple[str, tuple[int, int]] | None = None
        concealed = 0
        for index, frame in self._indexed():
            concealed += frame.is_corrupt
            while due and due[0] <= index:
                orientation = frame_orientation(frame)
                current = f"frame {index} of {self._path}", orientation.size(frame.width, frame.height)
                first = first or current
                picture = to_rgb(frame, preprocess, len(wanted), self._path, orientation)
                if taken and picture.shape != taken[min(taken)].shape:
                    require_one_size(first, current)
                taken[due.popleft()] = picture
            if not due:
                self.notes += _concealment_note(concealed)
                return taken
        if self._survey is None:
            self._survey = self._run_survey()
        return None

    def _indexed(self) -> Iterator[tuple[int, Any]]:
        """Yield decoded frames with their indices; end early if a packet does not have exactly one frame."""
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

    def _run_survey(self) -> Survey:
        """Decode the whole video, one packet at a time, so that each failure belongs to the packet just sent."""
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
        """Yield packet number and frame for each decoded frame; the frame is None if its packet cannot be decoded.

        Args:
            container: open container.
            stream: its video stream.
            times: receives the presentation times of the numbered packets.
        """
        av = load_av()
        for number, packet in self._numbered(container, stream):
            if number is not None:
                if times is not None:
                    times[number] = packet.pts
                packet.pts = number  # decoders copy this to the frame
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if number is not None:
                    yield number, None
                continue
            yield from ((frame.pts, frame) for frame in frames)

    def _numbered(self, container: Any, stream: Any) -> Iterator[tuple[int | None, Any]]:
        """Yield packets in the order of the file; those with a visible frame are numbered, the others have None."""
        number, is_hidden = 0, _HIDDEN.get(stream.codec_context.name, _never)
        for packet in _until_error(container.demux(stream)):
            if not packet.size or packet.is_discard or is_hidden(packet):
                yield None, packet
                continue
            if number >= MAX_FRAMES:
                raise VideoError(f"{self._path} has more than {MAX_FRAMES} frames", hint="split it into parts")
            yield number, packet
            number += 1

    def _open(self) -> OpenInput:
        return OpenInput(file_input(self._path))


def _never(packet: Any) -> bool:
    return False


def _is_hidden_vp8(packet: Any) -> bool:
    """Return whether a frame of VP8 is only a reference for other frames and is not shown."""
    return not memoryview(packet)[0] & 0x10


_HIDDEN: Final[Mapping[str, Callable[[Any], bool]]] = {"vp8": _is_hidden_vp8}
"""Tests for packets whose frame is not shown, by codec."""


def _until_error(packets: Iterator[Any]) -> Iterator[Any]:
    """Yield packets up to the end of the file, or to the first damage of its container."""
    av = load_av()
    try:
        yield from packets
    except av.error.FFmpegError:
        return


def _concealment_note(count: int) -> tuple[str, ...]:
    """Return the note on damaged frames that the decoder filled in, which affects frames predicted from them."""
    if not count:
        return ()
    damaged = "1 frame is damaged; its" if count == 1 else f"{count} frames are damaged; their"
    return (f"{damaged} missing parts were filled in by the decoder, and later frames may be affected",)


def _declared_seconds(container: Any, stream: Any) -> float:
    """Return the declared duration. For a truncated AVI, FFmpeg adjusts the duration but not the number of frames."""
    seconds: float = container.duration / 1e6
    if container.format.name != "avi" or not stream.average_rate:
        return seconds
    return max(seconds, float(stream.frames / stream.average_rate))


def _length_note(container: Any, stream: Any, count: int, last: Fraction) -> list[str]:
    """Return the note on a file that seems to be truncated, if it does.

    Args:
        container: open container.
        stream: its video stream.
        count: number of frames found.
        last: end of the last frame in seconds, by the timestamps of the file.
    """
    missing = stream.frames > count if stream.frames else len(container.streams) == 1
    if not (missing and container.duration):
        return []
    declared, end = _declared_seconds(container, stream), float(last) - min(container.start_time or 0, 0) / 1e6
    if end >= declared - _SLACK_SECONDS:
        return []
    return [f"the file declares {declared:.1f} s, but its frames end at {end:.1f} s: it may be truncated"]
