"""Queues."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from lcve_deploy.verbs.watch.queues import BoundedQueue, OrderedResults
from tests.watch.helpers import (
    result,
)


def test_where_places_are_short_the_oldest_goes() -> None:
    queue = BoundedQueue[int](2, drop_oldest=True)
    assert [queue.put(number) for number in range(5)] == [None, None, 0, 1, 2]
    queue.close()
    assert queue.put(9) == 9
    assert [queue.take(), queue.take(), queue.take()] == [3, 4, None]


def test_where_nothing_may_be_dropped_a_newcomer_waits() -> None:
    queue, lost = BoundedQueue[int](1, drop_oldest=False), list[int | None]()
    adding = threading.Thread(target=lambda: lost.extend(queue.put(number) for number in range(50)))
    adding.start()
    assert [queue.take() for _ in range(50)] == list(range(50))
    adding.join()
    assert lost == [None] * 50
    assert queue.put(50) is None
    waiting = threading.Thread(target=lambda: lost.append(queue.put(51)))
    waiting.start()
    assert queue.clear() == [50]  # and whoever waits for a place is told that there is none
    waiting.join()
    assert lost[-1] in (51, None)


def test_results_leave_in_order_and_few_are_held() -> None:
    ordered, rng = OrderedResults(4), np.random.default_rng(0)
    turns = iter(range(200))
    held = []

    def work() -> None:
        for number in turns:
            time.sleep(float(rng.random()) / 2000)
            ordered.put(result(number))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    seen: list[Any] = []
    while len(seen) < 200:
        held.append(len(ordered._held))
        taken = ordered.take(5)
        assert taken is not None
        seen.append(taken.number)
    assert seen == list(range(200))
    assert max(held) <= 5
    assert ordered.is_empty
    assert ordered.take(0) is None
