"""Memory on an NVIDIA GPU through the driver itself, so that a runtime without such an interface can read it in place.

It is in the primary context of the GPU, which the CUDA runtime, and with it every library that uses that, shares. It
holds the keys of sessions on CUDA, which have run on an H200.

Source: CUDA driver API, sections "Primary Context Management", "Context Management" and "Memory Management".
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import DeviceError, SessionError
from lcve_deploy.libraries.cuda import load_driver

__all__ = ["GpuMemory"]

_SUCCESS: Final = 0
_OUT_OF_MEMORY: Final = 2
_DEFAULT_STREAM: Final = None


class GpuMemory:
    """Zeroed memory on a GPU, freed with this object.

    Args:
        size: bytes.
        device: number of the GPU.

    Raises:
        DeviceError: there is no driver, or no such GPU.
        SessionError: the GPU has too little memory, or the driver fails.
    """

    def __init__(self, size: int, device: int) -> None:
        driver = load_driver()
        if driver is None or driver.cuInit(0) != _SUCCESS:
            raise DeviceError("expected an NVIDIA GPU and its driver, but none was found")
        handle, context, address = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
        _require(driver.cuDeviceGet(ctypes.byref(handle), device), f"find GPU {device}")
        _require(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), "open the GPU")
        self._driver, self._context, self.size = driver, context, size
        with _current(driver, context):
            _require(driver.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(size)), f"allocate {size} bytes")
            weakref.finalize(self, _free, driver, context, handle, address.value)
            _require(driver.cuMemsetD8_v2(address, ctypes.c_ubyte(0), ctypes.c_size_t(size)), "clear memory")
            _require(driver.cuStreamSynchronize(_DEFAULT_STREAM), "clear memory")
        self.address = int(address.value)

    def write(self, offset: int, values: npt.NDArray[Any]) -> None:
        """Copy values to an offset in bytes, and wait until they are there.

        Raises:
            SessionError: the driver fails.
            ValueError: the values do not fit.
        """
        values = np.ascontiguousarray(values)
        if not 0 <= offset <= self.size - values.nbytes:
            raise ValueError(f"expected at most {self.size} bytes, received {values.nbytes} at {offset}")
        with _current(self._driver, self._context):
            target, source = ctypes.c_uint64(self.address + offset), ctypes.c_void_p(values.ctypes.data)
            _require(self._driver.cuMemcpyHtoD_v2(target, source, ctypes.c_size_t(values.nbytes)), "copy to the GPU")
            _require(self._driver.cuStreamSynchronize(_DEFAULT_STREAM), "copy to the GPU")  # the copy is asynchronous


@contextmanager
def _current(driver: ctypes.CDLL, context: ctypes.c_void_p) -> Iterator[None]:
    _require(driver.cuCtxPushCurrent_v2(context), "use the GPU")
    try:
        yield
    finally:
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _free(driver: ctypes.CDLL, context: ctypes.c_void_p, device: ctypes.c_int, address: int) -> None:
    with _current(driver, context):
        driver.cuMemFree_v2(ctypes.c_uint64(address))
    driver.cuDevicePrimaryCtxRelease_v2(device)


def _require(result: int, work: str) -> None:
    if result == _OUT_OF_MEMORY:
        raise SessionError(
            f"the GPU has too little memory to {work}", hint="free memory on the GPU, or keep fewer keys"
        )
    if result != _SUCCESS:
        raise SessionError(f"the NVIDIA driver could not {work}: error {result}")
