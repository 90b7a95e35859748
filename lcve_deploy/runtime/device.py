"""This machine's CPU, in words: a proof holds for the device on which it was given."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

__all__ = ["cpu_name"]

_CPUS: Final = Path("/proc/cpuinfo")


def cpu_name() -> str:
    """Model of the CPU, as the system calls it."""
    return _field(_CPUS, "model name") or platform.processor() or platform.machine()


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
