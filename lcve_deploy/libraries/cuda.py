"""Detect an NVIDIA GPU and a working driver through the driver itself.

No Python package is needed, so the result can be part of a clear error before a library fails with
its own message.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Final

__all__ = ["Gpu", "driver_version", "find_gpu", "load_driver"]

_DRIVERS: Final = {"win32": "nvcuda.dll"}
_LINUX_DRIVER: Final = "libcuda.so.1"
_SUCCESS: Final = 0
_NAME_BYTES: Final = 256
_CAPABILITY_MAJOR: Final = 75
_CAPABILITY_MINOR: Final = 76


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A CUDA device.

    Args:
        name: name reported by the driver.
        capability: compute capability, for example ``8.6``.
    """

    name: str
    capability: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.capability})"


def find_gpu(ordinal: int = 0) -> Gpu | None:
    """Return a GPU by its number, or None if there is no driver or no such GPU.

    ``CUDA_VISIBLE_DEVICES`` hides and orders GPUs, here as in all CUDA libraries.

    Source: CUDA driver API, sections "Initialization" and "Device Management".
    """
    driver = load_driver()
    count = ctypes.c_int()
    if driver is None or driver.cuInit(0) != _SUCCESS:
        return None
    if driver.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS or count.value <= ordinal:
        return None
    return _describe(driver, ordinal)


def driver_version() -> str:
    """Return the newest CUDA version that the driver supports, such as ``12.4``; empty if there is no driver.

    Source: CUDA driver API, section "Version Management".
    """
    driver, version = load_driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != _SUCCESS:
        return ""
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def load_driver() -> ctypes.CDLL | None:
    """Return the library of the NVIDIA driver, or None if there is none."""
    try:
        return ctypes.CDLL(_DRIVERS.get(sys.platform, _LINUX_DRIVER))
    except OSError:
        return None


def _describe(driver: ctypes.CDLL, ordinal: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(_NAME_BYTES)
    driver.cuDeviceGet(ctypes.byref(device), ordinal)
    driver.cuDeviceGetName(name, _NAME_BYTES, device)
    major, minor = (_attribute(driver, device, number) for number in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR))
    return Gpu(name=name.value.decode(errors="replace"), capability=f"{major}.{minor}")


def _attribute(driver: ctypes.CDLL, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value
