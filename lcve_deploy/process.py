"""Protection of processes that hold a key."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["disable_core_dumps"]


def disable_core_dumps() -> None:
    """Prevent a crash of this process from writing its memory, and with it the key, to disk.

    The resource limit applies to core files that the kernel writes. Programs that collect core dumps may ignore it, so
    on Linux memory is also excluded from dumps, which leaves only registers. ``PR_SET_DUMPABLE`` would exclude those
    too, but it would also block debuggers, profilers and ``/proc`` for the user.
    """
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # not Linux, or /proc is not writable
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")
