"""What else runs on the machine while a process measures."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)
"""Columns of ``/proc/stat`` that count work: user, nice, system, interrupts, stolen time. Source: proc(5)."""


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Seconds at one moment: of the wall, of all processors at work, and of the children that have ended."""

    wall: float
    busy: float
    children: float


def clock() -> Clock:
    """Read the clocks; Linux has all of them."""
    times = os.times()
    return Clock(wall=time.monotonic(), busy=_busy(), children=times.children_user + times.children_system)


def others(start: Clock, end: Clock) -> float:
    """Return how many processors were at work for anything but the children."""
    work = (end.busy - start.busy) - (end.children - start.children)
    return max(0.0, round(work / (end.wall - start.wall), 2))


def _busy() -> float:
    columns = _STAT.read_text().split("\n", 1)[0].split()[1:]
    return sum(int(columns[number]) for number in _BUSY) / os.sysconf("SC_CLK_TCK")
