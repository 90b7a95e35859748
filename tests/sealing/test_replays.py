"""Requests that were seen before, within bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcve_deploy.errors import SealingError
from lcve_deploy.sealing import Replays


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    @property
    def milliseconds(self) -> int:
        return round(self.now * 1000)


def test_a_request_is_taken_once() -> None:
    clock = Clock()
    replays = Replays(clock=clock)
    replays.remember("a", clock.milliseconds)
    replays.remember("b", clock.milliseconds)
    for again in ("a", "b"):
        with pytest.raises(SealingError, match="none is accepted twice"):
            replays.remember(again, clock.milliseconds)


def test_requests_outside_of_the_window_are_refused() -> None:
    clock = Clock()
    replays = Replays(window=300, clock=clock)
    clock.now += 1000
    replays.require_new("a", clock.milliseconds - 300_000)
    replays.require_new("a", clock.milliseconds + 300_000)
    with pytest.raises(SealingError, match="sealed 301 s before this server's time, and 300 s are allowed"):
        replays.require_new("a", clock.milliseconds - 301_000)
    with pytest.raises(SealingError, match="sealed 301 s after"):
        replays.require_new("a", clock.milliseconds + 301_000)


def test_requests_of_before_the_start_are_refused() -> None:
    """A process that has just started cannot know what the one before it took."""
    clock = Clock()
    replays = Replays(clock=clock)
    with pytest.raises(SealingError, match="sealed before it started"):
        replays.require_new("a", clock.milliseconds - 1)
    replays.require_new("a", clock.milliseconds)


def test_memory_is_bounded_and_still_nothing_is_taken_twice() -> None:
    clock = Clock()
    replays = Replays(capacity=10, clock=clock)
    for number in range(100):
        clock.now += 0.001
        replays.remember(str(number), clock.milliseconds)
        assert len(replays) <= 10
    for number in range(100):
        with pytest.raises(SealingError):
            replays.remember(str(number), 1_000_001 + number)
    with pytest.raises(SealingError, match="before the oldest request that it remembers"):
        replays.require_new("new", 1_000_050)


def test_ids_are_forgotten_when_the_window_has_passed() -> None:
    clock = Clock()
    replays = Replays(window=10, clock=clock)
    for number in range(5):
        replays.remember(str(number), clock.milliseconds)
    clock.now += 11
    replays.remember("later", clock.milliseconds)
    assert len(replays) == 1
    clock.now -= 11  # a clock that was set back must not open the door again
    with pytest.raises(SealingError):
        replays.remember("later", 1_011_000)


@given(
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(-20, 20), st.integers(0, 8)), max_size=60),
    capacity=st.integers(1, 6),
)
def test_no_order_of_requests_is_taken_twice(steps: list[tuple[int, int, int]], capacity: int) -> None:
    clock = Clock()
    replays, taken = Replays(window=10, capacity=capacity, clock=clock), set[tuple[str, int]]()
    for wait, skew, name in steps:
        clock.now += wait
        request = (str(name), 1_000_000 + skew * 1000 + name)
        try:
            replays.remember(*request)
        except SealingError:
            continue
        assert request not in taken
        taken.add(request)
        assert len(replays) <= capacity
