"""Threads that read, encrypt and send windows, connected by bounded queues.

If the server is slower than a camera, the oldest waiting window is dropped. Every window gets a result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from lcve_deploy.client import Client, Prediction
from lcve_deploy.clips import EncryptedClip, PlainClip
from lcve_deploy.encrypted_model import EncryptedModel
from lcve_deploy.errors import LcveError, MismatchError, SessionError
from lcve_deploy.model.output import OutputKind
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.verbs.watch.queues import BoundedQueue, OrderedResults
from lcve_deploy.verbs.watch.results import Counts, Latency, Outcome, WindowResult
from lcve_deploy.verbs.watch.worker import BackgroundThread
from lcve_deploy.video.live import LiveSource
from lcve_deploy.video.windows import SlidingWindows, Window, window_length

__all__ = ["Watch", "WatchOptions"]

C = TypeVar("C")

_RESULTS: Final = 256
_GRACE: Final = 1.0
"""Seconds to wait for a reader thread, which cannot be interrupted."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How a source is watched.

    Args:
        hop: frames from one window to the next; by default the length of a window.
        in_flight: concurrent requests, at least 1.
        waiting: size of each queue: windows before encryption, and windows after it; at least 1.
        top: predictions per window, at least 1.
        windows: stop after this many windows; None for no limit.
        seconds: stop after this many seconds of the stream, above 0; None for no limit.
        preprocess: preprocessing; by default that of the client.

    Raises:
        ValueError: a value is out of range.
    """

    hop: int | None = None
    in_flight: int = 2
    waiting: int = 2
    top: int = 5
    windows: int | None = None
    seconds: float | None = None
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        counts = (self.hop, self.in_flight, self.waiting, self.top, self.windows)
        if any(count is not None and count < 1 for count in counts):
            raise ValueError(f"expected hop, in_flight, waiting, top and windows of at least 1, received {self}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"expected more than 0 seconds, received {self.seconds}")

    def single_frame_note(self, preprocess: Preprocess) -> str:
        """Return the note that every frame is sent, if the model takes single pictures and no hop is set.

        Args:
            preprocess: preprocessing of the client, for options without their own.
        """
        if self.hop is not None or window_length(self.preprocess or preprocess) > 1:
            return ""
        return "the model takes single pictures: every frame is sent as a window of its own; --hop N sends every Nth"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item(Generic[C]):
    """A window in the pipeline: its clip, its result so far, and when it entered the queue (``time.monotonic``)."""

    clip: C
    result: WindowResult
    latency: Latency
    ready: float

    def dropped(self) -> WindowResult:
        """Return the result of a window that is not sent."""
        return replace(self.result, outcome=Outcome.DROPPED)


class Watch:
    """Watch a source; a context manager. Only one thread may take results.

    Args:
        source: source of frames.
        client: client of the artifact.
        session: model that runs encrypted clips.
        options: how to watch.

    Raises:
        MismatchError: the model answers no logits of clips, which predictions are made of.
    """

    def __init__(
        self, source: LiveSource, client: Client, session: EncryptedModel, options: WatchOptions | None = None
    ) -> None:
        if client.settings.answer.kind is not OutputKind.LOGITS:
            raise MismatchError(
                f"expected a model that answers logits, to predict the class of each window; this one answers "
                f"{client.settings.answer}",
                hint="record the stream, and run the files with lcve batch",
            )
        self._source, self._client, self._session = source, client, session
        self._options = options or WatchOptions()
        preprocess = self._options.preprocess or client.settings.preprocess
        self._windows = SlidingWindows(preprocess, hop=self._options.hop, name=source.name)
        size, drop_oldest = self._options.waiting, source.is_live
        self._plain = BoundedQueue[_Item[PlainClip]](size, drop_oldest=drop_oldest)
        self._encrypted = BoundedQueue[_Item[EncryptedClip]](size, drop_oldest=drop_oldest)
        self._results, self._tally = OrderedResults(_RESULTS), Counts()
        self._stopped_at: float | None = None
        self._reader = BackgroundThread(self._read, on_exit=self._plain.close)
        self._workers = [
            BackgroundThread(self._encrypt, on_exit=self._encrypted.close),
            *(BackgroundThread(self._send) for _ in range(self._options.in_flight)),
        ]

    def __enter__(self) -> Self:
        """Open the source, and start all threads.

        Raises:
            VideoError: the source cannot be opened.
            MissingDependencyError: PyAV is not installed.
        """
        opening = BackgroundThread(self._source.open)
        opening.start()
        while opening.is_running():  # a signal interrupts this wait, but not the opening of a dead camera
            opening.join(_GRACE)
        if opening.error:
            raise opening.error
        for worker in (self._reader, *self._workers):
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, without waiting for requests in flight."""
        self._results.abandon()
        self.stop()
        self._reader.join(_GRACE)

    def results(self, *, timeout: float) -> Iterator[WindowResult | None]:
        """Yield all results in the order of their windows, and None after every ``timeout`` seconds without one.

        Raises:
            VideoError: a camera could not be opened again, or a video has no good frame; after all results.
        """
        while not self._has_ended():
            result = self._results.take(timeout)
            for worker in self._workers:
                if worker.error:
                    raise worker.error
            if result:
                self._tally = replace(self.counts, **{result.outcome: getattr(self._tally, result.outcome) + 1})
                yield replace(result, counts=self._tally)
            else:
                yield None
        if self._reader.error:
            raise self._reader.error

    @property
    def counts(self) -> Counts:
        """Outcomes of the results taken so far, and the current counts of the source."""
        return replace(self._tally, reconnects=self._source.reconnects, damaged=self._source.damaged)

    def stop(self) -> None:
        """Stop reading, and drop waiting windows. Requests in flight still get results."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        waiting = [item.dropped() for item in self._encrypted.clear()]
        waiting += [item.dropped() for item in self._plain.clear()]
        for result in waiting:
            self._results.put(result, wait=False)  # the caller may be the thread that takes results

    def _has_ended(self) -> bool:
        # Do not wait for a reader that is blocked by a dead camera.
        expired = self._stopped_at is not None and time.monotonic() - self._stopped_at > _GRACE
        reading = self._reader.is_running() and not expired
        return not reading and not any(worker.is_running() for worker in self._workers) and self._results.is_empty

    def _is_stopped(self) -> bool:
        return self._stopped_at is not None

    def _read(self) -> None:
        """Read frames into windows, up to the limits of the options."""
        seconds, limit = self._options.seconds, self._options.windows
        for frame in self._source.frames(self._is_stopped):
            if seconds is not None and frame.moment.position >= seconds:
                return
            window = self._windows.add(frame)
            if window is None:
                continue
            self._enqueue(window)
            if window.number + 1 == limit:
                return

    def _enqueue(self, window: Window) -> None:
        ready = time.monotonic()
        latency = Latency(assembly=ready - window.last.read)
        result = WindowResult(number=window.number, first=window.first, last=window.last, outcome=Outcome.DROPPED)
        self._put(self._plain, _Item(clip=window.clip, result=result, latency=latency, ready=ready))

    def _put(self, queue: BoundedQueue[_Item[C]], item: _Item[C]) -> None:
        dropped = queue.put(item)
        if dropped is not None:
            self._results.put(dropped.dropped())

    def _encrypt(self) -> None:
        while (item := self._plain.take()) is not None:
            started = time.monotonic()
            clip = self._client.encrypt(item.clip)
            ready = time.monotonic()
            latency = replace(item.latency, waiting=started - item.ready, encryption=ready - started)
            self._put(self._encrypted, _Item(clip=clip, result=item.result, latency=latency, ready=ready))

    def _send(self) -> None:
        while (item := self._encrypted.take()) is not None:
            started = time.monotonic()
            result = self._request(item)
            request, waiting = time.monotonic() - started, item.latency.waiting + started - item.ready
            self._results.put(replace(result, latency=replace(item.latency, waiting=waiting, request=request)))

    def _request(self, item: _Item[EncryptedClip]) -> WindowResult:
        try:
            predictions = self._predict(self._session.run(item.clip))
        except LcveError as error:
            return replace(item.result, outcome=Outcome.FAILED, error=str(error), hint=error.hint)
        return replace(item.result, outcome=Outcome.ANSWERED, predictions=tuple(predictions))

    def _predict(self, logits: npt.NDArray[np.float32]) -> list[Prediction]:
        expected = (1, *self._client.settings.answer.shape)
        if logits.shape != expected:
            raise SessionError(f"expected logits {list(expected)}, received {list(logits.shape)}")
        return self._client.read(logits, top=self._options.top)
