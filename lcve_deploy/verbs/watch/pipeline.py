"""Reader, encryptor and senders, each in threads of their own, with bounded queues between them.

Where the server is slower than a camera, the oldest window that waits makes place. Every window has a result.
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
from lcve_deploy.errors import LcveError, SessionError
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.verbs.watch.queues import Ordered, Waiting
from lcve_deploy.verbs.watch.results import Counts, Latency, Outcome, WindowResult
from lcve_deploy.verbs.watch.worker import BackgroundThread
from lcve_deploy.video.live import LiveSource
from lcve_deploy.video.windows import SlidingWindows, Window

__all__ = ["Watch", "WatchOptions"]

C = TypeVar("C")

_RESULTS: Final = 256
_GRACE: Final = 1.0
"""Seconds that a reader is waited for that nothing can interrupt."""


@dataclass(frozen=True, kw_only=True)
class WatchOptions:
    """How a source is watched.

    Args:
        hop: frames from one window to the next; by default a window's length.
        in_flight: requests at the same time, at least 1.
        waiting: windows that may wait before the encryption, and as many after it; at least 1.
        top: predictions of a window.
        windows: stop after so many; None for no end.
        seconds: stop after so many seconds of the stream; None for no end.
        preprocess: of the model; by default that of the client's settings.

    Raises:
        ValueError: a value below 1, or a time that is not above 0.
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
            raise ValueError(f"expected hop, requests, places, predictions and windows of at least 1, received {self}")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"expected more than 0 seconds, received {self.seconds}")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Item(Generic[C]):
    """A window on its way: its clip, its result so far, and since when it waits."""

    clip: C
    result: WindowResult
    latency: Latency
    ready: float

    def dropped(self) -> WindowResult:
        """Its result where it goes no further."""
        return replace(self.result, outcome=Outcome.DROPPED)


class Watch:
    """A source being watched; a context manager. Results are taken by one thread.

    Args:
        source: of frames.
        client: the key holder's side of the artifact.
        session: what answers.
        options: how.
    """

    def __init__(
        self, source: LiveSource, client: Client, session: EncryptedModel, options: WatchOptions | None = None
    ) -> None:
        self._source, self._client, self._session = source, client, session
        self._options = options or WatchOptions()
        preprocess = self._options.preprocess or client.settings.preprocess
        self._windows = SlidingWindows(preprocess, hop=self._options.hop, name=source.name)
        places, dropping = self._options.waiting, source.is_live
        self._plain = Waiting[_Item[PlainClip]](places, dropping=dropping)
        self._encrypted = Waiting[_Item[EncryptedClip]](places, dropping=dropping)
        self._results, self._tally = Ordered(_RESULTS), Counts()
        self._stopped_at: float | None = None
        self._reader = BackgroundThread(self._read, finally_=self._plain.close)
        self._others = [
            BackgroundThread(self._encrypt, finally_=self._encrypted.close),
            *(BackgroundThread(self._send) for _ in range(self._options.in_flight)),
        ]

    def __enter__(self) -> Self:
        """Open the source, and begin.

        Raises:
            VideoError: it cannot be opened.
            MissingDependencyError: PyAV is not installed.
        """
        opening = BackgroundThread(self._source.open)
        opening.start()
        while opening.is_running():  # signals reach a thread that waits, and none that opens a dead camera
            opening.join(_GRACE)
        if opening.error:
            raise opening.error
        for worker in (self._reader, *self._others):
            worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop; requests on their way are left to themselves."""
        self._results.abandon()
        self.stop()
        self._reader.join(_GRACE)

    def results(self, *, patience: float) -> Iterator[WindowResult | None]:
        """All results in the order of their windows; None whenever none has come for ``patience`` seconds.

        Raises:
            VideoError: a camera that went away for good, or a video without a good frame; after all results.
        """
        while not self._has_ended():
            result = self._results.take(patience)
            for worker in self._others:
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
        """Windows whose results were taken, and what the source has seen so far."""
        return replace(self._tally, reconnects=self._source.reconnects, damaged=self._source.damaged)

    def stop(self) -> None:
        """Read no more, and drop what waits; the requests on their way still have results."""
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        waiting = [item.dropped() for item in self._encrypted.clear()]
        waiting += [item.dropped() for item in self._plain.clear()]
        for result in waiting:
            self._results.put(result, patient=False)  # the caller that stops may be the one that takes results

    def _has_ended(self) -> bool:
        # A reader that waits for a dead camera is not waited for.
        grace = self._stopped_at is not None and time.monotonic() - self._stopped_at > _GRACE
        reading = self._reader.is_running() and not grace
        return not reading and not any(worker.is_running() for worker in self._others) and self._results.is_empty

    def _is_stopped(self) -> bool:
        return self._stopped_at is not None

    def _read(self) -> None:
        """Frames to windows, up to what the options allow."""
        seconds, last = self._options.seconds, self._options.windows
        for frame in self._source.frames(self._is_stopped):
            if seconds is not None and frame.moment.position >= seconds:
                return
            window = self._windows.add(frame)
            if window is None:
                continue
            self._admit(window)
            if window.number + 1 == last:
                return

    def _admit(self, window: Window) -> None:
        ready = time.monotonic()
        latency = Latency(assembly=ready - window.last.read)
        result = WindowResult(number=window.number, first=window.first, last=window.last, outcome=Outcome.DROPPED)
        self._put(self._plain, _Item(clip=window.clip, result=result, latency=latency, ready=ready))

    def _put(self, queue: Waiting[_Item[C]], item: _Item[C]) -> None:
        lost = queue.put(item)
        if lost is not None:
            self._results.put(lost.dropped())

    def _encrypt(self) -> None:
        while (item := self._plain.take()) is not None:
            begun = time.monotonic()
            clip = self._client.encrypt(item.clip)
            ready = time.monotonic()
            latency = replace(item.latency, waiting=begun - item.ready, encryption=ready - begun)
            self._put(self._encrypted, _Item(clip=clip, result=item.result, latency=latency, ready=ready))

    def _send(self) -> None:
        while (item := self._encrypted.take()) is not None:
            begun = time.monotonic()
            result = self._answer(item)
            request, waiting = time.monotonic() - begun, item.latency.waiting + begun - item.ready
            self._results.put(replace(result, latency=replace(item.latency, waiting=waiting, request=request)))

    def _answer(self, item: _Item[EncryptedClip]) -> WindowResult:
        try:
            predictions = self._predict(self._session.run(item.clip))
        except LcveError as error:
            return replace(item.result, outcome=Outcome.FAILED, error=str(error))
        return replace(item.result, outcome=Outcome.ANSWERED, predictions=tuple(predictions))

    def _predict(self, logits: npt.NDArray[np.float32]) -> list[Prediction]:
        expected = (1, len(self._client.settings.classes))
        if logits.shape != expected:
            raise SessionError(f"expected logits {list(expected)}, received {list(logits.shape)}")
        return self._client.read(logits, top=self._options.top)
