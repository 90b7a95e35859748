"""Dynamic batching: clips that wait at the same time share a run, in a queue of bounded length."""

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
from lcve_deploy.serving.settings import Batching

__all__ = ["BatchResult", "Batcher", "Run"]

Values = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of the engine: clips, requests that share it, and seconds."""

    clips: int
    requests: int
    seconds: float
    failed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class BatchResult:
    """Logits ``[clips, classes]`` of a request, seconds that it waited, and the run that it shared."""

    logits: Logits
    waited: float
    run: Run


@dataclass(kw_only=True, eq=False)
class _Waiting:
    values: Values
    since: float
    future: asyncio.Future[BatchResult] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Batcher:
    """The queue of one model. Made, used and closed on one event loop.

    Args:
        engine: takes uint8 clips ``[batch, ...]`` and gives float32 logits ``[batch, classes]``; called in threads.
        options: sizes, delay and instances.
        threads: where the engine runs.
        observe: told of every run.
    """

    def __init__(
        self,
        engine: Callable[[Values], Logits],
        options: Batching,
        threads: Executor,
        observe: Callable[[Run], None],
    ) -> None:
        self._engine, self._options, self._threads, self._observe = engine, options, threads, observe
        self._waiting: deque[_Waiting] = deque()
        self._clips, self._closing = 0, False
        self._changed, self._free = asyncio.Event(), asyncio.Semaphore(options.instances)
        self._runs: set[asyncio.Task[None]] = set()
        self._dispatcher = asyncio.create_task(self._dispatch())

    @property
    def waiting(self) -> int:
        """Clips that wait for an instance."""
        return self._clips

    async def submit(self, values: Values, *, timeout: float | None = None) -> BatchResult:
        """Wait for a run and its answer.

        Args:
            values: of one request, at most ``largest`` clips.
            timeout: seconds; None for any time.

        Raises:
            UnavailableError: the queue is full, or closes.
            DeadlineError: not answered in time.
            LcveError: whatever the engine raised.
        """
        if self._closing:
            raise UnavailableError("the model is being closed", hint="try again, or another server")
        if self._clips + len(values) > self._options.most_waiting:
            raise UnavailableError(
                f"the queue is full: {self._clips} clips wait, and at most {self._options.most_waiting} may",
                hint="try again later, or another server",
            )
        item = _Waiting(values=values, since=time.monotonic())
        self._waiting.append(item)
        self._clips += len(values)
        self._changed.set()
        try:
            async with asyncio.timeout(timeout):
                return await item.future
        except TimeoutError:
            raise DeadlineError(f"not answered in {timeout} s") from None
        finally:
            self._forget(item)

    async def close(self) -> None:
        """Refuse what is new, and return once all that was accepted is answered."""
        self._closing = True
        self._changed.set()
        await self._dispatcher
        while self._runs:
            await asyncio.wait(self._runs)

    def _forget(self, item: _Waiting) -> None:
        """Take out what is given up before it ran."""
        if item in self._waiting:
            self._waiting.remove(item)
            self._clips -= len(item.values)
            self._changed.set()

    async def _dispatch(self) -> None:
        while True:
            await self._free.acquire()
            batch = await self._gather()
            if not batch:
                return
            task = asyncio.create_task(self._run(batch))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)

    async def _gather(self) -> list[_Waiting]:
        """The next batch; nothing once the queue is closed and empty."""
        while True:
            while not self._waiting:
                if self._closing:
                    return []
                self._changed.clear()
                await self._changed.wait()
            left = self._waiting[0].since + self._options.delay - time.monotonic()
            if left <= 0 or self._closing or self._clips >= self._options.largest:
                return self._take()
            self._changed.clear()
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _take(self) -> list[_Waiting]:
        """From the front, as many requests as fit into one run."""
        batch, room = [], self._options.largest
        while self._waiting and len(self._waiting[0].values) <= room:
            batch.append(item := self._waiting.popleft())
            room -= len(item.values)
            self._clips -= len(item.values)
        return batch

    async def _run(self, batch: Sequence[_Waiting]) -> None:
        started = time.monotonic()
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._answer, [item.values for item in batch])
        await asyncio.wait([work])
        self._free.release()
        error = work.exception()
        clips = sum(len(item.values) for item in batch)
        run = Run(clips=clips, requests=len(batch), seconds=time.monotonic() - started, failed=error is not None)
        self._observe(run)
        first = 0
        for item in batch:
            last = first + len(item.values)
            if item.future.done():
                pass  # given up while it ran
            elif error is not None:
                item.future.set_exception(error)
            else:
                logits = work.result()[first:last]
                item.future.set_result(BatchResult(logits=logits, waited=started - item.since, run=run))
            first = last

    def _answer(self, parts: list[Values]) -> Logits:
        return self._engine(parts[0] if len(parts) == 1 else np.concatenate(parts))
