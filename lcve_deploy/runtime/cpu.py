"""This machine's CPU, in words: a proof holds for the device on which it was given."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

__all__ = ["cpu_name"]

_CPUS: Final = Path("/proc/cpuinfo")
_PRODUCTS: Final = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimddp", "asimdhp", "i8mm", "bf16", "sve"),
)


def cpu_name() -> str:
    """Model of the CPU, as the system calls it, and what it has that changes how products are computed."""
    model = _field(_CPUS, "model name") or platform.processor() or platform.machine()
    flags = set((_field(_CPUS, "flags") or _field(_CPUS, "Features")).split())
    found = [flag for flag in _PRODUCTS if flag in flags]
    return f"{model} ({', '.join(found)})" if found else model


def _field(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")
