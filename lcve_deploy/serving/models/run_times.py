"""Durations of an engine's recent runs: when a request can be answered at the earliest, and when to try again."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["BegunRun", "RunTimes"]

_RECENT: Final = 64
_MIN_RUNS: Final = 3
"""Runs of one size that must have been measured: a single slow run says nothing about the others."""
_VALID_SECONDS: Final = 10.0
"""Seconds after the last run in which its measurements are relied on. Later, a request runs and measures again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BegunRun:
    """A run in progress: its clips, and when it began in monotonic seconds."""

    clips: int
    began: float


class RunTimes:
    """Durations of recent runs, by their number of clips.

    Args:
        max_batch: maximum clips of one run.
        instances: concurrent runs.
        clock: monotonic time in seconds.
    """

    def __init__(self, *, max_batch: int, instances: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_batch, self._instances, self._clock = max_batch, instances, clock
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._running: set[BegunRun] = set()
        self._last = -float("inf")

    def begin(self, clips: int) -> BegunRun:
        """Note that a run begins."""
        run = BegunRun(clips=clips, began=self._clock())
        self._running.add(run)
        return run

    def end(self, run: BegunRun, *, failed: bool) -> float:
        """Note that a run has ended, and return its seconds; those of a failed run are not relied on."""
        self._running.discard(run)
        self._last = self._clock()
        seconds = self._last - run.began
        if not failed:
            self._recent.append((run.clips, seconds))
        return seconds

    def run_seconds(self, clips: int) -> float:
        """Return the seconds that a run of so many clips takes at least; 0 if that is not known.

        It takes no less time than the fastest of several runs of as many or fewer clips.
        """
        if not self._running and self._clock() > self._last + _VALID_SECONDS:
            return 0.0
        by_size: dict[int, list[float]] = {}
        for size, seconds in self._recent:
            if size <= clips:
                by_size.setdefault(size, []).append(seconds)
        return max((min(times) for times in by_size.values() if len(times) >= _MIN_RUNS), default=0.0)

    def answer_seconds(self, clips: int, waiting: int) -> float:
        """Return the seconds until a request can be answered at the earliest.

        Args:
            clips: clips of the request.
            waiting: clips that wait for their run already.
        """
        now = self._clock()
        running = sum(max(0.0, self.run_seconds(run.clips) - (now - run.began)) for run in self._running)
        full, rest = divmod(waiting + clips, self._max_batch)
        queued = full * self.run_seconds(self._max_batch) + (self.run_seconds(rest) if rest else 0.0)
        return max(self.run_seconds(clips), (running + queued) / self._instances)

    def mean_seconds(self, clips: int = 1) -> float | None:
        """Return the seconds in which so many waiting clips are expected to run; None if nothing was measured."""
        if not self._recent:
            return None
        runs = -(-clips // self._max_batch)
        return runs * sum(seconds for _, seconds in self._recent) / len(self._recent) / self._instances
