"""Dynamic batching: requests that wait at the same time share a run. The queue has a maximum length."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import DeadlineError, UnavailableError
from lcve_deploy.serving.models.run_times import BegunRun, RunTimes
from lcve_deploy.serving.settings import Batching

__all__ = ["BatchResult", "Batcher", "Run"]

Values = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


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
    values: Values
    arrived: float
    future: asyncio.Future[BatchResult]
    waits: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class _Batch:
    """Requests that share a run, and when it began."""

    items: Sequence[_QueuedRequest]
    begun: BegunRun
    started: float


class Batcher:
    """Queue of one model. Create, use and close it on one event loop.

    A run takes two wakes: that of a thread, and that of the loop when the run has ended. There the next run begins
    before anything else is done, so that the engine does not wait for the answers of the last.

    Args:
        engine: maps uint8 clips ``[batch, ...]`` to float32 logits ``[batch, classes]``; called in threads.
        options: batch size, delay, queue length and instances.
        threads: executor that runs the engine.
        observe: called after every run.
    """

    def __init__(
        self,
        engine: Callable[[Values], Logits],
        options: Batching,
        threads: Executor,
        observe: Callable[[Run], None],
    ) -> None:
        self._engine, self._options, self._threads, self._observe = engine, options, threads, observe
        self._times = RunTimes(max_batch=options.max_batch, instances=options.instances)
        self._waiting: deque[_QueuedRequest] = deque()
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

    async def submit(self, values: Values, *, timeout: float | None = None) -> BatchResult:
        """Queue the clips of one request, and return their logits after the run.

        Args:
            values: uint8 ``[clips, ...]``, 1 to ``max_batch`` clips.
            timeout: seconds until the request fails; None for no limit.

        Raises:
            UnavailableError: the queue is full, so much waits that the request would time out, or the batcher is
                closing.
            DeadlineError: the request timed out, or a run takes longer than it may.
            LcveError: the engine failed.
        """
        if self._closing:
            raise UnavailableError("the model is being closed", hint="try again, or use another server")
        self._require_place(len(values))
        if timeout is not None:
            self._require_time(len(values), timeout)
        item = _QueuedRequest(values=values, arrived=time.monotonic(), future=self._loop.create_future())
        self._waiting.append(item)
        self._waiting_clips += len(values)
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

    async def close(self) -> None:
        """Refuse new requests, and return once every accepted request is answered."""
        self._closing = True
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
        self._waiting_clips -= len(item.values)
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
        while self._waiting and self._running < self._options.instances:
            remaining = self._waiting[0].arrived + self._options.delay - time.monotonic()
            if remaining > 0 and not self._closing and self._waiting_clips < self._options.max_batch:
                self._next = self._loop.call_later(remaining, self._dispatch)
                return
            self._begin(self._take_batch())
        if self._closing and not self._waiting and not self._running:
            self._ended.set()

    def _take_batch(self) -> list[_QueuedRequest]:
        """Remove as many requests from the head of the queue as fit into one run."""
        batch, space = [], self._options.max_batch
        while self._waiting and len(self._waiting[0].values) <= space:
            batch.append(item := self._waiting.popleft())
            item.waits = False
            space -= len(item.values)
            self._waiting_clips -= len(item.values)
        return batch

    def _begin(self, items: Sequence[_QueuedRequest]) -> None:
        started, clips = time.monotonic(), sum(len(item.values) for item in items)
        batch = _Batch(items=items, begun=self._times.begin(clips), started=started)
        self._running += 1
        work = self._threads.submit(self._run_engine, [item.values for item in items])
        work.add_done_callback(partial(self._hand_over, batch))

    def _hand_over(self, batch: _Batch, work: Future[Logits]) -> None:
        """Wake the loop, from the engine's thread; if the loop is closed, nothing waits for the answer."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end, batch, work)

    def _end(self, batch: _Batch, work: Future[Logits]) -> None:
        """Begin the next run, then answer the requests of this one."""
        error = work.exception()
        seconds = self._times.end(batch.begun, failed=error is not None)
        self._running -= 1
        self._dispatch()
        run = Run(clips=batch.begun.clips, requests=len(batch.items), seconds=seconds, failed=error is not None)
        self._observe(run)
        first = 0
        for item in batch.items:
            last = first + len(item.values)
            if item.future.done():
                pass  # cancelled or timed out during the run
            elif error is not None:
                item.future.set_exception(error)
            else:
                logits, queued = work.result()[first:last], batch.started - item.arrived
                item.future.set_result(BatchResult(logits=logits, queue_seconds=queued, run=run))
            first = last

    def _run_engine(self, parts: list[Values]) -> Logits:
        return self._engine(parts[0] if len(parts) == 1 else np.concatenate(parts))
