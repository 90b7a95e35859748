"""Pass clips in shared memory: a pool of regions, one for each concurrent request, reused between requests."""

from __future__ import annotations

import os
import secrets
import weakref
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import SessionError

__all__ = ["Region", "RegionPool"]

_HOME: Final = Path("/dev/shm")  # noqa: S108 (Linux's shared memory; nothing is written there by name)


class Region:
    """A region of this machine's shared memory. Removed with this object or at the end of the process.

    Args:
        size: bytes.

    Raises:
        SessionError: the machine has too little shared memory.
    """

    def __init__(self, size: int) -> None:
        from tritonclient.utils import shared_memory

        _require_free_space(size)
        self.name = f"lcve_{secrets.token_hex(16)}"
        self.key, self.size, self.answered = f"/{self.name}", size, False
        try:
            self._handle: Any = shared_memory.create_shared_memory_region(self.name, self.key, size, create_only=True)
        except shared_memory.SharedMemoryException as error:
            raise SessionError(f"no shared memory of {size} bytes: {error}") from None
        self.remove = weakref.finalize(self, shared_memory.destroy_shared_memory_region, self._handle)

    def fill(self, values: npt.NDArray[np.uint8]) -> None:
        """Copy clips to the start of the region."""
        from tritonclient.utils import shared_memory

        shared_memory.set_shared_memory_region(self._handle, [values])


class RegionPool:
    """The regions of one endpoint, free or in use. Threads may share the pool."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._current: set[Region] = set()
        self._free: list[Region] = []
        self._gone: list[str] = []

    def take(self, size: int) -> Region | None:
        """Take the largest free region; if it is too small, remove it and return None."""
        with self._lock:
            region = max(self._free, key=lambda region: region.size, default=None)
            if region is not None:
                self._free.remove(region)
        if region is None or region.size >= size:
            return region
        self.remove(region)
        return None

    def make(self, size: int) -> Region:
        """Create a region and mark it as in use.

        Raises:
            SessionError: the machine has too little shared memory.
        """
        region = Region(size)
        with self._lock:
            self._current.add(region)
        return region

    def give_back(self, region: Region) -> None:
        """Mark a region as free, or remove it if it has been dropped since."""
        with self._lock:
            kept = region in self._current
            if kept:
                self._free.append(region)
        if not kept:
            self.remove(region)

    def remove(self, region: Region) -> None:
        """Remove a region from the pool; it is not reused, as the server may still read it."""
        with self._lock:
            self._current.discard(region)
            self._gone.append(region.name)
        region.remove()

    def drop(self) -> None:
        """Remove all free regions now, and those in use when they are given back."""
        with self._lock:
            free, self._free, self._current = self._free, [], set()
        for region in free:
            self.remove(region)

    def take_gone(self) -> list[str]:
        """Return the names of removed regions that the server may still know, each name once."""
        with self._lock:
            gone, self._gone = self._gone, []
        return gone


def _require_free_space(size: int) -> None:
    """Check the free space. The kernel kills a process that writes beyond it, and containers often have only 64 MiB."""
    if _HOME.is_dir():
        status = os.statvfs(_HOME)
        if status.f_bavail * status.f_frsize < size:
            raise SessionError(f"no shared memory of {size} bytes: {_HOME} is full")
