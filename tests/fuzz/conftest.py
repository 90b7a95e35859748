"""Fixtures of the tests in this folder."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.fuzz.helpers import (
    PROCESSOR_SECONDS,
    SECONDS,
    too_long,
)


@pytest.fixture(autouse=True)
def within_bounded_time() -> Iterator[None]:
    """A reader that works or waits without end fails its test rather than stop the suite.

    Its own work is counted, which is the same on a busy machine.
    """
    alarms = {signal.SIGPROF: (signal.ITIMER_PROF, PROCESSOR_SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, SECONDS)}
    before = {number: signal.signal(number, too_long) for number in alarms}
    for timer, seconds in alarms.values():
        signal.setitimer(timer, seconds)
    yield
    for timer, _ in alarms.values():
        signal.setitimer(timer, 0)
    for number, handler in before.items():
        signal.signal(number, handler)
