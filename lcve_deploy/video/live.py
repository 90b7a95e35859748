"""Read frames of a live source: an RTSP camera, a V4L2 camera, or a video file played as a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.errors import VideoError
from lcve_deploy.video.decode import OpenInput, decoded, load_av
from lcve_deploy.video.moments import MediaClock, Moment, pause
from lcve_deploy.video.sources import STANDARD_INPUT, RtspTransport, SourceKind, parse_source

__all__ = ["MAX_DAMAGED", "LiveFrame", "LiveOptions", "LiveSource"]

MAX_DAMAGED: Final = 500
"""A camera's stream is opened again after more than this many damaged frames in a row."""

_FIRST_PAUSE: Final = 0.5
_MAX_DOUBLINGS: Final = 16


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a live source is read.

    Args:
        transport: transport of RTSP.
        timeout: maximum seconds to wait for a response or a frame of a camera; above 0.
        reconnects: maximum attempts in a row to open a camera again after its stream ended; at least 0.
        max_pause: maximum seconds between two attempts; the pause starts at 0.5 s and doubles; at least 0.
        loop: repeat a file.
        realtime: play a file at its own speed; by default as fast as frames are taken.

    Raises:
        ValueError: a value is out of range.
    """

    transport: RtspTransport = RtspTransport.TCP
    timeout: float = 10.0
    reconnects: int = 20
    max_pause: float = 30.0
    loop: bool = False
    realtime: bool = False

    def __post_init__(self) -> None:
        if not self.timeout > 0 or self.reconnects < 0 or not self.max_pause >= 0:
            raise ValueError(f"expected timeout > 0, reconnects >= 0 and max_pause >= 0, received {self}")


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveFrame:
    """One frame of a stream.

    Args:
        index: number since the stream was last opened, from 0; damaged frames count.
        moment: time of the frame.
        picture: frame of PyAV.
    """

    index: int
    moment: Moment
    picture: Any


def _ignore(message: str) -> None:
    """Discard a message."""


class LiveSource:
    """A live source. A camera is opened again when its stream ends or fails.

    The counts are written by the thread that takes the frames; other threads may read them.

    Args:
        source: ``rtsp://...``, ``/dev/videoN``, the path of a video file, or ``-`` for standard input.
        options: how to read it.
        on_reconnect: called with the reason when a stream is opened again; the message contains no password.

    Attributes:
        frames_seen: number of frames so far, including damaged ones.
        damaged: number of frames that could not be decoded.
        reconnects: how often the camera was opened again.

    Raises:
        VideoError: the source is of another kind, or the options do not apply to it.
    """

    def __init__(
        self, source: str, options: LiveOptions | None = None, *, on_reconnect: Callable[[str], None] = _ignore
    ) -> None:
        self._options, self._on_reconnect = options or LiveOptions(), on_reconnect
        self._kind, self._input = parse_source(source, transport=self._options.transport, timeout=self._options.timeout)
        if self._kind is not SourceKind.FILE and (self._options.loop or self._options.realtime):
            raise VideoError(f"{self.name} is a camera; loop and real time apply only to video files")
        if source == STANDARD_INPUT and self._options.loop:
            raise VideoError("standard input cannot be read again; loop applies only to video files")
        self.frames_seen = self.damaged = self.reconnects = 0
        self._clock, self._resources = MediaClock(), ExitStack()
        self._opened: tuple[Any, Any] | None = None
        self._attempts = self._index = 0
        self._began = self._last_read = time.monotonic()

    def __repr__(self) -> str:
        return f"LiveSource({self.name!r})"

    @property
    def name(self) -> str:
        """Name for messages; of an address, only scheme, host and port."""
        return self._input.name

    @property
    def is_live(self) -> bool:
        """Whether frames arrive at their own pace; those of a file wait until they are taken."""
        return self._kind is not SourceKind.FILE or self._options.realtime

    def open(self) -> None:
        """Open the source. A first failure is final; only a camera that has been open before is retried.

        Raises:
            VideoError: the source cannot be opened, or is not a video.
            MissingDependencyError: PyAV is not installed.
        """
        container, stream = self._resources.enter_context(OpenInput(self._input))
        # Frame threads would delay every frame by the number of threads.
        stream.thread_type = "AUTO" if self._kind is SourceKind.FILE else "SLICE"
        now = time.monotonic()
        gap = now - self._last_read if self.frames_seen and self._kind is not SourceKind.FILE else 0.0
        self._clock.restart(stream.average_rate, gap=gap)
        self._opened, self._last_read = (container, stream), now

    def close(self) -> None:
        """Close the source."""
        self._opened = None
        self._resources.close()

    def frames(self, stop: Callable[[], bool]) -> Iterator[LiveFrame]:
        """Yield all frames in order; the next good frame replaces a damaged one, as when a file is sampled.

        Args:
            stop: called between frames and in pauses; returns True to end.

        Raises:
            VideoError: a camera could not be opened again, or a file has no good frame.
        """
        if self._opened is None:
            self.open()
        try:
            while self._opened is not None and not stop():
                reason = yield from self._until_end(*self._opened, stop)
                self.close()
                if not stop():
                    self._reopen(reason, stop)
        finally:
            self.close()

    def _until_end(self, container: Any, stream: Any, stop: Callable[[], bool]) -> Generator[LiveFrame, None, str]:
        """Yield the frames up to the end of the stream; return why it ended."""
        av = load_av()
        damaged = 0
        try:
            for picture in decoded(container.demux(stream)):
                self._last_read = time.monotonic()
                if stop():
                    return ""
                if picture is not None:
                    yield from self._emit(picture, damaged, stop)
                    damaged = 0
                    continue
                damaged, self.damaged = damaged + 1, self.damaged + 1
                if damaged > MAX_DAMAGED and self._kind is not SourceKind.FILE:
                    return f"{self.name}: {damaged} damaged frames in a row"
        except av.error.FFmpegError as error:
            return self._end_reason(error.strerror)
        return self._end_reason("the stream ended")

    def _emit(self, picture: Any, damaged: int, stop: Callable[[], bool]) -> Iterator[LiveFrame]:
        """Yield a good frame, once for each damaged frame before it and once for itself."""
        self._attempts = 0
        for left in range(damaged, -1, -1):
            position = self._clock.position(None if left else picture.time)
            self._keep_pace(position, stop)
            moment = Moment.now(frame=self.frames_seen, position=position)
            yield LiveFrame(index=self._index, moment=moment, picture=picture)
            self.frames_seen, self._index = self.frames_seen + 1, self._index + 1

    def _keep_pace(self, position: float, stop: Callable[[], bool]) -> None:
        if not self._options.realtime:
            return
        if self.frames_seen == 0:
            self._began = time.monotonic() - position
        # Limit the pause: the timestamps of a file may be arbitrarily far apart.
        pause(min(self._began + position - time.monotonic(), self._options.timeout), stop)

    def _end_reason(self, reason: str) -> str:
        """Return why a stream ended, which FFmpeg does not report for a timeout."""
        silence = time.monotonic() - self._last_read
        timed_out = silence >= self._options.timeout
        return f"{self.name}: {f'received nothing for {silence:.1f} s' if timed_out else reason}"

    def _reopen(self, reason: str, stop: Callable[[], bool]) -> None:
        """Reconnect to a camera, or restart a file that loops; otherwise leave the source closed."""
        if self._kind is not SourceKind.FILE:
            self._reconnect(reason, stop)
            return
        if self.frames_seen == 0:
            raise VideoError(f"no frame of {self.name} can be decoded: damaged, or another kind of file")
        if self._options.loop:
            self.open()

    def _reconnect(self, reason: str, stop: Callable[[], bool]) -> None:
        while self._attempts < self._options.reconnects:
            wait = min(_FIRST_PAUSE * 2 ** min(self._attempts, _MAX_DOUBLINGS), self._options.max_pause)
            self._attempts += 1
            self._on_reconnect(
                f"{reason}; reconnecting in {wait:g} s (attempt {self._attempts} of {self._options.reconnects})"
            )
            pause(wait, stop)
            if stop():
                return
            try:
                self.open()
            except VideoError as error:
                reason = str(error)
                continue
            self.reconnects, self._index = self.reconnects + 1, 0
            return
        raise VideoError(
            f"{reason}; gave up after {self._attempts} attempts to reconnect",
            hint="check that the camera is on and reachable, or allow more attempts with --reconnects",
        )
