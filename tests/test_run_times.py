"""What is known of the time of a run, and what is not claimed."""

from __future__ import annotations

import pytest

from lcve_deploy.serving.models.run_times import RunTimes


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def times_of(clock: Clock, *runs: tuple[int, float], instances: int = 1) -> RunTimes:
    """Runs of so many clips that took so many seconds, one after another."""
    times = RunTimes(max_batch=4, instances=instances, clock=clock)
    for clips, seconds in runs:
        begun = times.begin(clips)
        clock.now += seconds
        times.end(begun, failed=False)
    return times


def test_nothing_is_claimed_before_several_runs(clock: Clock) -> None:
    times = times_of(clock)
    assert (times.run_seconds(1), times.answer_seconds(4, 100), times.mean_seconds()) == (0, 0, None)
    assert times_of(clock, (1, 30.0), (1, 30.0)).run_seconds(1) == 0


def test_the_fastest_of_several_runs_counts_and_no_larger_ones(clock: Clock) -> None:
    times = times_of(clock, (1, 1.0), (1, 9.0), (1, 2.0), (4, 3.0), (4, 3.5), (4, 8.0), (2, 50.0))
    assert times.run_seconds(1) == pytest.approx(1)
    assert times.run_seconds(3) == pytest.approx(1)
    assert times.run_seconds(4) == pytest.approx(3)


def test_a_failed_run_is_not_relied_on(clock: Clock) -> None:
    times = times_of(clock, (1, 1.0), (1, 1.0), (1, 1.0))
    begun = times.begin(1)
    clock.now += 0.001
    assert times.end(begun, failed=True) == pytest.approx(0.001)
    assert times.run_seconds(1) == pytest.approx(1)


def test_what_runs_and_what_waits_is_added(clock: Clock) -> None:
    """Two full runs wait before the request's own, and one is half done."""
    times = times_of(clock, *[(1, 1.0)] * 3, *[(4, 2.0)] * 3)
    times.begin(4)
    clock.now += 1.5
    assert times.answer_seconds(1, 0) == pytest.approx(0.5 + 1)
    assert times.answer_seconds(1, 3) == pytest.approx(0.5 + 2)
    assert times.answer_seconds(1, 8) == pytest.approx(0.5 + 2 + 2 + 1)
    clock.now += 100
    assert times.answer_seconds(1, 0) == pytest.approx(1)


def test_instances_share_the_work_but_not_a_run(clock: Clock) -> None:
    times = times_of(clock, *[(1, 1.0)] * 3, *[(4, 2.0)] * 3, instances=4)
    assert times.answer_seconds(4, 12) == pytest.approx(2)
    assert times.answer_seconds(4, 28) == pytest.approx(4)


def test_old_measurements_are_not_relied_on_so_that_a_request_measures_again(clock: Clock) -> None:
    times = times_of(clock, *[(1, 1.0)] * 3)
    clock.now += 9
    assert times.run_seconds(1) == pytest.approx(1)
    clock.now += 2
    assert times.run_seconds(1) == 0
    assert times.answer_seconds(1, 8) == 0
    times.begin(1)
    assert times.run_seconds(1) == pytest.approx(1)


def test_the_mean_is_of_whole_runs(clock: Clock) -> None:
    times = times_of(clock, (1, 1.0), (4, 3.0))
    assert times.mean_seconds() == pytest.approx(2)
    assert times.mean_seconds(5) == pytest.approx(4)
    assert times_of(clock, (4, 3.0), instances=2).mean_seconds(8) == pytest.approx(3)
