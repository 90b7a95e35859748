"""When, where and with what a part was measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lcve_deploy.runtime.cpu import cpu_name

_PACKAGES = ("numpy", "onnxruntime", "openvino", "onnx-ir", "torch")


def stamp() -> dict[str, Any]:
    """Return the date, the machine and the versions of libraries."""
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"date": date.today().isoformat(), "machine": machine, "versions": versions(_PACKAGES)}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of the packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
