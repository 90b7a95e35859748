"""Dynamic batching: requests that wait at the same time share a run. The queue has a maximum length.

Requests of one run may have different keys. Work in the background, such as the probe of a new key, takes the place of
a run while no request waits, or once it has waited for too long.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import DeadlineError, UnavailableError
from lcve_deploy.serving.models.run_times import BegunRun, RunTimes
from lcve_deploy.serving.settings import Batching

__all__ = ["Answer", "BatchResult", "Batcher", "Run"]

Logits = npt.NDArray[np.float32]
Answer = Logits | Exception
"""Answer to one request of a run: its logits, or why it alone has none."""

_PATIENCE_SECONDS: Final = 1.0
"""Seconds after which background work no longer lets requests go first."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of an engine.

    Args:
        clips: clips in the batch.
        requests: requests that share the run.
        seconds: duration.
        failed: whether the engine raised an error.
    """

    clips: int
    requests: int
    seconds: float
    failed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchResult:
    """Result of one request.

    Args:
        logits: float32 ``[clips, classes]``.
        queue_seconds: seconds from the request's arrival to its run.
        run: run that the request shared.
    """

    logits: Logits
    queue_seconds: float
    run: Run


@dataclass(kw_only=True, eq=False)
class _QueuedRequest:
    clip: EncryptedClip
    clips: int
    arrived: float
    future: asyncio.Future[BatchResult]
    waits: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Requests that share a run, and when it began."""

    items: Sequence[_QueuedRequest]
    begun: BegunRun
    started: float


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    """Background work, and the time after which requests no longer go first."""

    work: Callable[[], None]
    latest: float
    future: asyncio.Future[None]


class Batcher:
    """Queue of one model. Create, use and close it on one event loop.

    A run takes two wakes: that of a thread, and that of the loop when the run has ended. There the next run begins
    before anything else is done, so that the engine does not wait for the answers of the last.

    Args:
        engine: maps the clips of several requests to the answer of each; called in threads. What it raises is the
            answer to all of them.
        options: batch size, delay, queue length and instances.
        threads: executor that runs the engine.
        observe: called after every run.
    """

    def __init__(
        self,
        engine: Callable[[Sequence[EncryptedClip]], Sequence[Answer]],
        options: Batching,
        threads: Executor,
        observe: Callable[[Run], None],
    ) -> None:
        self._engine, self._options, self._threads, self._observe = engine, options, threads, observe
        self._times = RunTimes(max_batch=options.max_batch, instances=options.instances)
        self._waiting: deque[_QueuedRequest] = deque()
        self._jobs: deque[_Job] = deque()
        self._waiting_clips, self._closing, self._running = 0, False, 0
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._next: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """Number of clips that wait for an instance."""
        return self._waiting_clips

    @property
    def run_seconds(self) -> float | None:
        """Expected seconds until a running request is answered; None if no run was measured."""
        return self._times.mean_seconds()

    async def submit(self, clip: EncryptedClip, *, timeout: float | None = None) -> BatchResult:
        """Queue the clips of one request, and return their logits after the run.

        Args:
            clip: uint8 values ``[clips, ...]`` of one key, 1 to ``max_batch`` clips.
            timeout: seconds until the request fails; None for no limit.

        Raises:
            UnavailableError: the queue is full, so much waits that the request would time out, or the batcher is
                closing.
            DeadlineError: the request timed out, or a run takes longer than it may.
            LcveError: the engine failed.
        """
        if self._closing:
            raise UnavailableError("the model is being closed", hint="try again, or use another server")
        clips = len(clip.values)
        self._require_place(clips)
        if timeout is not None:
            self._require_time(clips, timeout)
        item = _QueuedRequest(clip=clip, clips=clips, arrived=time.monotonic(), future=self._loop.create_future())
        self._waiting.append(item)
        self._waiting_clips += clips
        self._dispatch_soon()
        try:
            if timeout is None:
                return await item.future
            async with asyncio.timeout(timeout):
                return await item.future
        except TimeoutError:
            raise DeadlineError(f"the request timed out after {timeout} s") from None
        finally:
            if item.waits:
                self._discard(item)

    async def run_in_background(self, work: Callable[[], None]) -> None:
        """Do work that uses the engine, in a thread and in the place of a run. Requests go first, for a while.

        Raises:
            UnavailableError: the batcher is closing.
            Exception: as ``work`` raises it.
        """
        if self._closing:
            raise UnavailableError("the model is being closed")
        job = _Job(work=work, latest=time.monotonic() + _PATIENCE_SECONDS, future=self._loop.create_future())
        self._jobs.append(job)
        self._dispatch_soon()
        await job.future

    async def close(self) -> None:
        """Refuse new requests and end waiting background work; return once every accepted request is answered."""
        self._closing = True
        for job in self._jobs:
            job.future.cancel()
        self._jobs.clear()
        self._dispatch_soon()
        await self._ended.wait()

    def _require_place(self, clips: int) -> None:
        """Refuse a request for which the queue has no place.

        Raises:
            UnavailableError: the queue is full.
        """
        excess = self._waiting_clips + clips - self._options.max_waiting
        if excess > 0:
            raise UnavailableError(
                f"the queue is full: {self._waiting_clips} clips wait, the maximum is {self._options.max_waiting}",
                hint="try again later, or use another server",
                retry_after=self._times.mean_seconds(excess),
            )

    def _require_time(self, clips: int, timeout: float) -> None:
        """Refuse a request that would time out while it waits: it would only delay others.

        Raises:
            DeadlineError: a run takes longer than the timeout.
            UnavailableError: the clips that wait take longer; another server may be in time.
        """
        alone = self._times.run_seconds(clips)
        if timeout < alone:
            raise DeadlineError(
                f"the request cannot be answered within {timeout:.3g} s: a run takes at least {alone:.3g} s",
                hint="allow more time for a request",
            )
        seconds = self._times.answer_seconds(clips, self._waiting_clips)
        if timeout < seconds:
            raise UnavailableError(
                f"the request cannot be answered within {timeout:.3g} s: {self._waiting_clips} clips wait, so it takes "
                f"at least {seconds:.3g} s",
                hint="try again later, use another server, or allow more time for a request",
                retry_after=seconds - timeout,
            )

    def _discard(self, item: _QueuedRequest) -> None:
        """Remove a request from the queue, as it was cancelled or timed out before its run."""
        self._waiting.remove(item)
        self._waiting_clips -= item.clips
        self._dispatch_soon()

    def _dispatch_soon(self) -> None:
        """Dispatch once the loop has called what is ready: requests that arrive together share a run."""
        self._cancel_next()
        self._next = self._loop.call_soon(self._dispatch)

    def _cancel_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _dispatch(self) -> None:
        """Begin the runs that are due, as far as instances are free; set a timer for the next if it is not due yet."""
        self._cancel_next()
        self._begin_jobs(overdue=True)
        while self._waiting and self._running < self._options.instances:
            remaining = self._waiting[0].arrived + self._options.delay - time.monotonic()
            if remaining > 0 and not self._closing and self._waiting_clips < self._options.max_batch:
                self._next = self._loop.call_later(remaining, self._dispatch)
                return
            self._begin(self._take_batch())
        self._begin_jobs(overdue=False)
        if self._closing and not self._waiting and not self._running:
            self._ended.set()

    def _begin_jobs(self, *, overdue: bool) -> None:
        """Begin background work as far as instances are free: what is overdue, or all if no request waits."""
        while self._jobs and self._running < self._options.instances:
            if self._jobs[0].latest > time.monotonic() if overdue else self._waiting:
                return
            job = self._jobs.popleft()
            if not job.future.done():
                self._running += 1
                self._threads.submit(job.work).add_done_callback(partial(self._hand_over, self._end_job, job))

    def _end_job(self, job: _Job, work: Future[None]) -> None:
        self._running -= 1
        self._dispatch()
        if job.future.done():
            return
        error = work.exception()
        if error is None:
            job.future.set_result(None)
        else:
            job.future.set_exception(error)

    def _take_batch(self) -> list[_QueuedRequest]:
        """Remove as many requests from the head of the queue as fit into one run."""
        batch, space = [], self._options.max_batch
        while self._waiting and self._waiting[0].clips <= space:
            batch.append(item := self._waiting.popleft())
            item.waits = False
            space -= item.clips
            self._waiting_clips -= item.clips
        return batch

    def _begin(self, items: Sequence[_QueuedRequest]) -> None:
        started, clips = time.monotonic(), sum(item.clips for item in items)
        batch = _Batch(items=items, begun=self._times.begin(clips), started=started)
        self._running += 1
        work = self._threads.submit(self._engine, [item.clip for item in items])
        work.add_done_callback(partial(self._hand_over, self._end, batch))

    def _hand_over(self, end: Callable[[Any, Any], None], begun: _Batch | _Job, work: Future[Any]) -> None:
        """Wake the loop, from the engine's thread; nothing is left to answer if the loop was closed."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(end, begun, work)

    def _end(self, batch: _Batch, work: Future[Sequence[Answer]]) -> None:
        """Begin the next run, then answer the requests of this one."""
        error = work.exception()
        seconds = self._times.end(batch.begun, failed=error is not None)
        self._running -= 1
        self._dispatch()
        run = Run(clips=batch.begun.clips, requests=len(batch.items), seconds=seconds, failed=error is not None)
        self._observe(run)
        answers = work.result() if error is None else [error] * len(batch.items)
        for item, answer in zip(batch.items, answers, strict=True):
            if item.future.done():
                continue  # cancelled or timed out during the run
            if isinstance(answer, BaseException):
                item.future.set_exception(answer)
            else:
                queued = batch.started - item.arrived
                item.future.set_result(BatchResult(logits=answer, queue_seconds=queued, run=run))
