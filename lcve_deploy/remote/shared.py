"""Shared memory that clips are handed over in: one region for each request under way, made once and used again."""

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

_HOME: Final = Path("/dev/shm")  # noqa: S108 (where Linux keeps shared memory; nothing is written there by name)


class Region:
    """A region of this machine's shared memory. It goes with this object, or with the process.

    Args:
        size: bytes.

    Raises:
        SessionError: the machine has no room for it.
    """

    def __init__(self, size: int) -> None:
        from tritonclient.utils import shared_memory

        _require_room(size)
        self.name = f"lcve_{secrets.token_hex(16)}"
        self.key, self.size, self.answered = f"/{self.name}", size, False
        try:
            self._handle: Any = shared_memory.create_shared_memory_region(self.name, self.key, size, create_only=True)
        except shared_memory.SharedMemoryException as error:
            raise SessionError(f"no shared memory of {size} bytes: {error}") from None
        self.remove = weakref.finalize(self, shared_memory.destroy_shared_memory_region, self._handle)

    def fill(self, values: npt.NDArray[np.uint8]) -> None:
        """Copy clips to its start."""
        from tritonclient.utils import shared_memory

        shared_memory.set_shared_memory_region(self._handle, [values])


class RegionPool:
    """The regions of one endpoint: free, or lent to a request. Threads may share them."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._current: set[Region] = set()
        self._free: list[Region] = []
        self._gone: list[str] = []

    def take(self, size: int) -> Region | None:
        """A free one that is large enough; one that is not makes room for another."""
        with self._lock:
            region = max(self._free, key=lambda region: region.size, default=None)
            if region is not None:
                self._free.remove(region)
        if region is None or region.size >= size:
            return region
        self.remove(region)
        return None

    def make(self, size: int) -> Region:
        """A new one, lent.

        Raises:
            SessionError: the machine has no room for it.
        """
        region = Region(size)
        with self._lock:
            self._current.add(region)
        return region

    def give_back(self, region: Region) -> None:
        """It is free again, where it has not been dropped meanwhile."""
        with self._lock:
            kept = region in self._current
            if kept:
                self._free.append(region)
        if not kept:
            self.remove(region)

    def remove(self, region: Region) -> None:
        """It is not used again: the server may still read it."""
        with self._lock:
            self._current.discard(region)
            self._gone.append(region.name)
        region.remove()

    def drop(self) -> None:
        """Remove all; those that are lent once they are given back."""
        with self._lock:
            free, self._free, self._current = self._free, [], set()
        for region in free:
            self.remove(region)

    def take_gone(self) -> list[str]:
        """Names of removed regions that the server may still know, each told once."""
        with self._lock:
            gone, self._gone = self._gone, []
        return gone


def _require_room(size: int) -> None:
    """The kernel ends a process that writes more than there is room for: containers often have 64 MiB."""
    if _HOME.is_dir():
        room = os.statvfs(_HOME)
        if room.f_bavail * room.f_frsize < size:
            raise SessionError(f"no shared memory of {size} bytes: {_HOME} is full")
