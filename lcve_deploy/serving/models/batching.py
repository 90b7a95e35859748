"""Dynamic batching: requests that wait at the same time share a run. The queue has a maximum length."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import DeadlineError, UnavailableError
from lcve_deploy.serving.models.run_times import RunTimes
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
    future: asyncio.Future[BatchResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """Queue of one model. Create, use and close it on one event loop.

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
        self._waiting_clips, self._closing = 0, False
        self._changed, self._free = asyncio.Event(), asyncio.Semaphore(options.instances)
        self._runs: set[asyncio.Task[None]] = set()
        self._dispatcher = asyncio.create_task(self._dispatch())

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
        item = _QueuedRequest(values=values, arrived=time.monotonic())
        self._waiting.append(item)
        self._waiting_clips += len(values)
        self._changed.set()
        try:
            async with asyncio.timeout(timeout):
                return await item.future
        except TimeoutError:
            raise DeadlineError(f"the request timed out after {timeout} s") from None
        finally:
            self._discard(item)

    async def close(self) -> None:
        """Refuse new requests, and return once every accepted request is answered."""
        self._closing = True
        self._changed.set()
        await self._dispatcher
        while self._runs:
            await asyncio.wait(self._runs)

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
        """Remove a request from the queue if it was cancelled or timed out before its run."""
        if item in self._waiting:
            self._waiting.remove(item)
            self._waiting_clips -= len(item.values)
            self._changed.set()

    async def _dispatch(self) -> None:
        while True:
            await self._free.acquire()
            batch = await self._next_batch()
            if not batch:
                return
            task = asyncio.create_task(self._run(batch))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)

    async def _next_batch(self) -> list[_QueuedRequest]:
        """Wait for the next batch; return an empty list once the queue is closed and empty."""
        while True:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.clear()
                await self._changed.wait()
            remaining = self._waiting[0].arrived + self._options.delay - time.monotonic()
            if remaining <= 0 or self._closing or self._waiting_clips >= self._options.max_batch:
                return self._take_batch()
            self._changed.clear()
            try:
                async with asyncio.timeout(remaining):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _take_batch(self) -> list[_QueuedRequest]:
        """Remove as many requests from the head of the queue as fit into one run."""
        batch, space = [], self._options.max_batch
        while self._waiting and len(self._waiting[0].values) <= space:
            batch.append(item := self._waiting.popleft())
            space -= len(item.values)
            self._waiting_clips -= len(item.values)
        return batch

    async def _run(self, batch: Sequence[_QueuedRequest]) -> None:
        started, clips = time.monotonic(), sum(len(item.values) for item in batch)
        begun = self._times.begin(clips)
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run_engine, [item.values for item in batch]
        )
        await asyncio.wait([work])
        self._free.release()
        error = work.exception()
        seconds = self._times.end(begun, failed=error is not None)
        run = Run(clips=clips, requests=len(batch), seconds=seconds, failed=error is not None)
        self._observe(run)
        first = 0
        for item in batch:
            last = first + len(item.values)
            if item.future.done():
                pass  # cancelled or timed out during the run
            elif error is not None:
                item.future.set_exception(error)
            else:
                logits = work.result()[first:last]
                item.future.set_result(BatchResult(logits=logits, queue_seconds=started - item.arrived, run=run))
            first = last

    def _run_engine(self, parts: list[Values]) -> Logits:
        return self._engine(parts[0] if len(parts) == 1 else np.concatenate(parts))
