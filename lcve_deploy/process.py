"""What a crash leaves on the disk: nothing, for a process that holds a key and asks for it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["disable_core_dumps"]


def disable_core_dumps() -> None:
    """A crash of this process writes no memory to disk: a core file would hold the key.

    The limit is for files that the kernel writes. A program that collects cores may overlook it, so on Linux it gets
    no memory either, only registers. PR_SET_DUMPABLE would keep those too, but also debuggers, profilers and /proc
    from the user, and also at the operator, who has no key.
    """
    if os.name == "posix":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError):  # another system than Linux, or a /proc that cannot be written
        Path("/proc/self/coredump_filter").write_text("0", encoding="ascii")
