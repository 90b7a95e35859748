"""When, where and with what a process measured."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.common.files import ROOT
from lcve_deploy.runtime.cpu import cpu_name

_PACKAGES = ("numpy", "onnxruntime", "openvino", "onnx-ir", "torch")


def machine() -> str:
    """Return the CPU with its features and its number of cores; figures of two machines never meet in a ratio."""
    return f"{cpu_name()}, {os.cpu_count()} cores, {platform.machine()}"


def stamp() -> dict[str, Any]:
    """Return the date, what runs, and the load before it runs."""
    return {
        "date": date.today().isoformat(),
        "versions": {"Python": platform.python_version(), **versions(_PACKAGES)},
        "code": code(),
        "load": round(os.getloadavg()[0], 2),
    }


def code() -> str:
    """Digest the package's source: figures of different sources are not mixed, nor are files that they wrote."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "lcve_deploy").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
