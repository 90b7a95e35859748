"""Frames of a live source: an RTSP camera, a V4L2 camera, or a video file played as a stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from lcve_deploy.errors import VideoError
from lcve_deploy.video.decode import Opened, decoded, load_av
from lcve_deploy.video.moments import MediaClock, Moment, pause
from lcve_deploy.video.sources import STANDARD_INPUT, RtspTransport, SourceKind, recognised

__all__ = ["MAX_DAMAGED", "LiveFrame", "LiveOptions", "LiveSource"]

MAX_DAMAGED: Final = 500
"""Damaged frames in a row after which the stream of a camera counts as broken."""

_FIRST_PAUSE: Final = 0.5
_DOUBLINGS: Final = 16


@dataclass(frozen=True, kw_only=True)
class LiveOptions:
    """How a live source is read.

    Args:
        transport: of RTSP.
        timeout: seconds without an answer or a frame after which a camera counts as gone; above 0.
        reconnects: attempts in a row to open a camera again, once its stream has ended or broken; 0 or more.
        longest_pause: seconds between two of them; the pause doubles from half a second up to it.
        loop: start a file again at its end.
        realtime: play a file at its own pace; by default as fast as its frames are taken.

    Raises:
        ValueError: a value outside its range.
    """

    transport: RtspTransport = RtspTransport.TCP
    timeout: float = 10.0
    reconnects: int = 20
    longest_pause: float = 30.0
    loop: bool = False
    realtime: bool = False

    def __post_init__(self) -> None:
        if not self.timeout > 0 or self.reconnects < 0 or not self.longest_pause >= 0:
            raise ValueError(
                f"expected a timeout above 0, reconnects and a longest pause of 0 or more, received {self}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class LiveFrame:
    """One frame.

    Args:
        index: since the stream began, or last broke, from 0; damaged ones count.
        moment: when it was.
        picture: of PyAV.
    """

    index: int
    moment: Moment
    picture: Any


def _ignore(message: str) -> None:
    """Say nothing."""


class LiveSource:
    """One source. A camera is opened again where its stream ends or breaks.

    The counts are written by the thread that takes the frames, and may be read by others.

    Args:
        source: ``rtsp://...``, ``/dev/videoN``, a video file, or ``-`` for standard input.
        options: how it is read.
        told: hears why a stream is opened again; never of a password.

    Attributes:
        frames_seen: frames so far, with the damaged ones.
        damaged: frames that could not be decoded.
        reconnects: how often it was opened again.

    Raises:
        VideoError: a source of another kind, or options that are not for this one.
    """

    def __init__(
        self, source: str, options: LiveOptions | None = None, *, told: Callable[[str], None] = _ignore
    ) -> None:
        self._options, self._told = options or LiveOptions(), told
        self._kind, self._input = recognised(source, transport=self._options.transport, timeout=self._options.timeout)
        if self._kind is not SourceKind.FILE and (self._options.loop or self._options.realtime):
            raise VideoError(f"{self.name} has its own pace and end", hint="looping and real time are for video files")
        if source == STANDARD_INPUT and self._options.loop:
            raise VideoError("standard input cannot be read again", hint="looping is for video files")
        self.frames_seen = self.damaged = self.reconnects = 0
        self._clock, self._resources = MediaClock(), ExitStack()
        self._opened: tuple[Any, Any] | None = None
        self._attempts = self._index = 0
        self._began = self._last_read = time.monotonic()

    def __repr__(self) -> str:
        return f"LiveSource({self.name!r})"

    @property
    def name(self) -> str:
        """As it is shown: of an address, host and port alone."""
        return self._input.name

    @property
    def is_live(self) -> bool:
        """Whether its frames come when they come; those of a file wait until they are taken."""
        return self._kind is not SourceKind.FILE or self._options.realtime

    def open(self) -> None:
        """Open it; a first time, this must succeed.

        Raises:
            VideoError: it cannot be opened, or is no video.
            MissingDependencyError: PyAV is not installed.
        """
        container, stream = self._resources.enter_context(Opened(self._input))
        # Threads that decode several frames at once would hold each back by as many frames.
        stream.thread_type = "AUTO" if self._kind is SourceKind.FILE else "SLICE"
        now = time.monotonic()
        gap = now - self._last_read if self.frames_seen and self._kind is not SourceKind.FILE else 0.0
        self._clock.restart(stream.average_rate, gap=gap)
        self._opened, self._last_read = (container, stream), now

    def close(self) -> None:
        """Close it."""
        self._opened = None
        self._resources.close()

    def frames(self, stop: Callable[[], bool]) -> Iterator[LiveFrame]:
        """All frames in order; the next good one stands in for a damaged one, as in a file that is sampled.

        Args:
            stop: asked between frames and in pauses; ends them.

        Raises:
            VideoError: a camera that could not be opened again, or a file without a good frame.
        """
        if self._opened is None:
            self.open()
        try:
            while self._opened is not None and not stop():
                reason = yield from self._until_end(*self._opened, stop)
                self.close()
                if not stop():
                    self._open_again(reason, stop)
        finally:
            self.close()

    def _until_end(self, container: Any, stream: Any, stop: Callable[[], bool]) -> Generator[LiveFrame, None, str]:
        """The frames up to the end of the stream; returns why it ended."""
        av = load_av()
        run = 0
        try:
            for picture in decoded(container.demux(stream)):
                self._last_read = time.monotonic()
                if stop():
                    return ""
                if picture is not None:
                    yield from self._good(picture, run, stop)
                    run = 0
                    continue
                run, self.damaged = run + 1, self.damaged + 1
                if run > MAX_DAMAGED and self._kind is not SourceKind.FILE:
                    return f"{self.name}: {run} damaged frames in a row"
        except av.error.FFmpegError as error:
            return self._broken(error.strerror)
        return self._broken("the stream ended")

    def _good(self, picture: Any, damaged: int, stop: Callable[[], bool]) -> Iterator[LiveFrame]:
        """A good frame, and before it as many times the same as there were damaged ones."""
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
        # A file may say that its next frame comes in a year.
        pause(min(self._began + position - time.monotonic(), self._options.timeout), stop)

    def _broken(self, reason: str) -> str:
        silent = time.monotonic() - self._last_read
        return f"{self.name}: {f'nothing came for {silent:.1f} s' if silent >= self._options.timeout else reason}"

    def _open_again(self, reason: str, stop: Callable[[], bool]) -> None:
        """Continue if there is more; otherwise leave it closed."""
        if self._kind is not SourceKind.FILE:
            self._reconnect(reason, stop)
            return
        if self.frames_seen == 0:
            raise VideoError(f"no frame of {self.name} can be decoded: damaged, or another kind of file")
        if self._options.loop:
            self.open()

    def _reconnect(self, reason: str, stop: Callable[[], bool]) -> None:
        while self._attempts < self._options.reconnects:
            wait = min(_FIRST_PAUSE * 2 ** min(self._attempts, _DOUBLINGS), self._options.longest_pause)
            self._attempts += 1
            self._told(
                f"{reason}; opening it again in {wait:g} s (attempt {self._attempts} of {self._options.reconnects})"
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
            f"{reason}; given up after {self._attempts} attempts to open it again",
            hint="see that the camera is on and reachable; --reconnects allows more attempts",
        )
