"""The queue of a model: requests share runs, in bounded length, and each gets its own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lcve_deploy.clips import SCHEME, Binding, EncryptedClip, KeyRef, Layout
from lcve_deploy.errors import DeadlineError, SessionError, UnavailableError, UnknownKeyError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.serving.models.batching import Answer, Batcher, BatchResult, Run
from lcve_deploy.serving.settings import Batching

GEOMETRY = ClipGeometry(frames=1, height=1, width=1, cube=(1, 1, 1))
KEY, REFUSED = (KeyRef(key_id=digit * 32, salt="0" * 32) for digit in "12")


class Engine:
    """Gives the first value of each clip and its double; waits while it is held."""

    def __init__(self) -> None:
        self.open, self.started = threading.Event(), threading.Event()
        self.open.set()
        self.sizes: list[int] = []
        self.fails = False

    def __call__(self, requests: Sequence[EncryptedClip]) -> list[Answer]:
        self.started.set()
        assert self.open.wait(30)
        self.sizes.append(sum(len(request.values) for request in requests))
        if self.fails:
            raise SessionError("out of order")
        return [self._answer(request) for request in requests]

    def _answer(self, request: EncryptedClip) -> Answer:
        if request.binding.key == REFUSED:
            return UnknownKeyError("no such key")
        first = request.values[:, 0, 0].astype(np.float32)
        return np.stack([first, 2 * first], axis=1)


def run(engine: Engine, options: Batching, work: Callable[[Batcher], Awaitable[Any]]) -> tuple[Any, list[Run]]:
    """Work with a batcher on a loop of its own, which closes it at the end."""

    async def main() -> tuple[Any, list[Run]]:
        runs: list[Run] = []
        with ThreadPoolExecutor(8) as threads:
            batcher = Batcher(engine, options, threads, runs.append)
            try:
                return await asyncio.wait_for(work(batcher), 60), runs
            finally:
                engine.open.set()
                await batcher.close()

    return asyncio.run(main())


def clips(*values: int, key: KeyRef = KEY) -> EncryptedClip:
    binding = Binding(scheme=SCHEME, key_id=key.key_id, salt=key.salt, geometry=GEOMETRY, layout=Layout.CUBES)
    return EncryptedClip(values=np.repeat(np.array(values, np.uint8)[:, None, None], 3, axis=2), binding=binding)


async def until_started(engine: Engine) -> None:
    await asyncio.to_thread(engine.started.wait, 30)


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=30),
    max_batch=st.integers(4, 8),
    delay=st.sampled_from([0.0, 0.002]),
    instances=st.integers(1, 3),
)
def test_every_request_gets_its_own_answer_and_no_run_is_too_large(
    sizes: list[int], max_batch: int, delay: float, instances: int
) -> None:
    engine = Engine()
    requests = [clips(*((i + j) % 256 for j in range(size))) for i, size in enumerate(sizes)]

    async def work(batcher: Batcher) -> list[BatchResult]:
        return await asyncio.gather(*(batcher.submit(values) for values in requests))

    options = Batching(max_batch=max_batch, delay=delay, max_waiting=200, instances=instances)
    outcomes, runs = run(engine, options, work)
    for values, outcome in zip(requests, outcomes, strict=True):
        assert outcome.logits.tolist() == [[float(v), 2.0 * v] for v in values.values[:, 0, 0]]
    assert max(engine.sizes) <= max_batch
    assert sum(engine.sizes) == sum(sizes) == sum(r.clips for r in runs)
    assert sum(r.requests for r in runs) == len(sizes)


def test_requests_that_wait_share_a_run() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> list[BatchResult]:
        first = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        rest = [asyncio.create_task(batcher.submit(clips(i))) for i in range(1, 6)]
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        engine.open.set()
        return await asyncio.gather(first, *rest)

    outcomes, _ = run(engine, Batching(max_batch=4, max_waiting=8), work)
    assert engine.sizes == [1, 4, 1]
    assert [outcome.run.clips for outcome in outcomes] == [1, 4, 4, 4, 4, 1]


def test_a_delay_lets_a_free_engine_wait_for_a_full_batch() -> None:
    engine = Engine()

    async def work(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.submit(clips(i)) for i in range(3)))

    run(engine, Batching(max_batch=3, delay=60.0, max_waiting=8), work)
    assert engine.sizes == [3]


def test_a_full_queue_refuses_and_then_takes_again() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> None:
        running = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        waiting = [asyncio.create_task(batcher.submit(clips(i, i))) for i in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="queue is full: 4 clips"):
            await batcher.submit(clips(9))
        engine.open.set()
        await asyncio.gather(running, *waiting)
        assert (await batcher.submit(clips(9))).logits.tolist() == [[9.0, 18.0]]

    run(engine, Batching(max_batch=2, max_waiting=4), work)


def test_what_is_given_up_makes_room_and_is_not_run() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> None:
        running = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        with pytest.raises(DeadlineError):
            await batcher.submit(clips(1), timeout=0.01)
        left = asyncio.create_task(batcher.submit(clips(2)))
        await asyncio.sleep(0)
        left.cancel()
        await asyncio.wait([left])
        assert batcher.waiting == 0
        engine.open.set()
        await running

    run(engine, Batching(max_batch=2, max_waiting=2), work)
    assert engine.sizes == [1]


def test_a_failure_reaches_all_who_share_the_run_and_nobody_else() -> None:
    engine = Engine()

    async def work(batcher: Batcher) -> None:
        engine.fails = True
        failed = await asyncio.gather(*(batcher.submit(clips(i)) for i in range(2)), return_exceptions=True)
        assert [type(error) for error in failed] == [SessionError, SessionError]
        engine.fails = False
        assert (await batcher.submit(clips(3))).logits[0, 0] == 3

    _, runs = run(engine, Batching(max_batch=2, max_waiting=2), work)
    assert [r.failed for r in runs] == [True, False]


def test_a_key_that_is_refused_fails_alone_in_a_shared_run() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> list[BatchResult | BaseException]:
        first = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        shared = [batcher.submit(clips(1)), batcher.submit(clips(2, key=REFUSED)), batcher.submit(clips(3))]
        tasks = [asyncio.create_task(request) for request in shared]
        await asyncio.sleep(0)
        engine.open.set()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)

    (before, refused, after), runs = run(engine, Batching(max_batch=3, max_waiting=8), work)
    assert isinstance(refused, UnknownKeyError)
    assert [answer.logits[0, 0] for answer in (before, after)] == [1, 3]
    assert [r.failed for r in runs] == [False, False]


@pytest.mark.parametrize(("patience", "runs_before"), [(3600.0, 3), (0.0, 1)])
def test_background_work_lets_requests_go_first_until_it_has_waited_too_long(
    monkeypatch: pytest.MonkeyPatch, patience: float, runs_before: int
) -> None:
    monkeypatch.setattr("lcve_deploy.serving.models.batching._PATIENCE_SECONDS", patience)
    engine = Engine()
    engine.open.clear()
    sizes: list[int] = []

    async def work(batcher: Batcher) -> None:
        running = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        background = asyncio.create_task(batcher.run_in_background(lambda: sizes.append(len(engine.sizes))))
        waiting = [asyncio.create_task(batcher.submit(clips(number))) for number in (1, 2)]
        await asyncio.sleep(0)
        engine.open.set()
        await asyncio.gather(running, background, *waiting)

    run(engine, Batching(max_batch=1, max_waiting=8), work)
    assert sizes == [runs_before]


def test_a_failure_in_the_background_is_that_of_its_caller() -> None:
    def fail() -> None:
        raise SessionError("out of order")

    async def work(batcher: Batcher) -> None:
        with pytest.raises(SessionError, match="out of order"):
            await batcher.run_in_background(fail)
        assert (await batcher.submit(clips(3))).logits[0, 0] == 3

    run(Engine(), Batching(max_batch=2, max_waiting=2), work)


def test_closing_ends_background_work_that_has_not_begun() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> None:
        running = asyncio.create_task(batcher.submit(clips(0)))
        await until_started(engine)
        background = asyncio.create_task(batcher.run_in_background(lambda: None))
        await asyncio.sleep(0)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        engine.open.set()
        await asyncio.gather(running, closing)
        with pytest.raises(asyncio.CancelledError):
            await background
        with pytest.raises(UnavailableError, match="closed"):
            await batcher.run_in_background(lambda: None)

    run(engine, Batching(max_batch=2, max_waiting=8), work)


def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    engine = Engine()
    engine.open.clear()

    async def work(batcher: Batcher) -> list[BatchResult]:
        accepted = [asyncio.create_task(batcher.submit(clips(i))) for i in range(5)]
        await until_started(engine)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="closed"):
            await batcher.submit(clips(9))
        engine.open.set()
        await closing
        return await asyncio.gather(*accepted)

    outcomes, _ = run(engine, Batching(max_batch=2, max_waiting=8), work)
    assert [outcome.logits[0, 0] for outcome in outcomes] == [0, 1, 2, 3, 4]


def test_a_queue_holds_at_least_one_batch() -> None:
    with pytest.raises(ValueError, match="queue of at least one batch"):
        Batching(max_batch=8, max_waiting=7)
