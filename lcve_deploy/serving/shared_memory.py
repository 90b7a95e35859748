"""System shared memory: regions that clients on this machine register, to send clips and get logits without a copy.

A region is read and written through its file descriptor and never mapped: a client that cuts it short would otherwise
kill the server. What is read is copied before it is looked at, so a client cannot change it afterwards.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import RequestError, UnknownModelError

__all__ = ["Regions", "Slice"]

_ROOT: Final = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory lives on Linux)
_KEY: Final = re.compile(r"/?[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MAX_REGIONS: Final = 256
_HINT: Final = "the server must be started with --shared-memory, and the client run on the same machine"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of a region: its name, and where in it, in bytes."""

    region: str
    offset: int
    size: int


@dataclass(frozen=True, kw_only=True)
class _Region:
    key: str
    offset: int
    size: int
    descriptor: int


class Regions:
    """The regions of one server.

    Args:
        allowed: whether any may be registered.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed, self._regions = allowed, dict[str, _Region]()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open a region.

        Raises:
            RequestError: not allowed, a name in use, a key that is no region here, or a size beyond its end.
        """
        if not self._allowed:
            raise RequestError("this server takes no shared memory", hint=_HINT)
        if name in self._regions:
            raise RequestError(f"shared memory region {name[:200]!r} is registered already")
        if len(self._regions) >= _MAX_REGIONS:
            raise RequestError(f"at most {_MAX_REGIONS} shared memory regions may be registered")
        if not _KEY.fullmatch(key):
            raise RequestError("the key of a shared memory region is one name, such as /clips")
        if not size:
            raise RequestError("a shared memory region has at least one byte")
        descriptor = _open(key)
        try:
            _require_within(offset, size, os.fstat(descriptor).st_size, "the shared memory object")
        except RequestError:
            os.close(descriptor)
            raise
        self._regions[name] = _Region(key=key, offset=offset, size=size, descriptor=descriptor)

    def unregister(self, name: str = "") -> None:
        """Close a region, or all of them; one that is not there is no error."""
        for known in [name] if name else list(self._regions):
            region = self._regions.pop(known, None)
            if region is not None:
                os.close(region.descriptor)

    def status(self, name: str = "") -> dict[str, dict[str, Any]]:
        """The regions by name.

        Raises:
            UnknownModelError: no such region.
        """
        names = [name] if name else list(self._regions)
        return {
            known: {"name": known, "key": region.key, "offset": region.offset, "byte_size": region.size}
            for known in names
            for region in (self._get(known),)
        }

    def read(self, part: Slice) -> bytes:
        """A copy of a part of a region.

        Raises:
            RequestError: no such region, or a part beyond its end.
        """
        region = self._get(part.region)
        _require_within(part.offset, part.size, region.size, f"shared memory region {part.region}")
        data = os.pread(region.descriptor, part.size, region.offset + part.offset)
        if len(data) != part.size:
            raise RequestError(f"shared memory region {part.region} has been cut short")
        return data

    def write(self, part: Slice, data: bytes) -> None:
        """Write into a part of a region.

        Raises:
            RequestError: no such region, a part beyond its end, or one that is too small.
        """
        region = self._get(part.region)
        _require_within(part.offset, part.size, region.size, f"shared memory region {part.region}")
        if len(data) > part.size:
            raise RequestError(f"the output has {len(data)} bytes, its part of region {part.region} {part.size}")
        _require_within(region.offset + part.offset, len(data), os.fstat(region.descriptor).st_size, "what is left")
        os.pwrite(region.descriptor, data, region.offset + part.offset)

    def _get(self, name: str) -> _Region:
        if name not in self._regions:
            raise UnknownModelError(f"there is no shared memory region {name[:200]!r}", hint="register it first")
        return self._regions[name]


def _open(key: str) -> int:
    path = _ROOT / key.removeprefix("/")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise RequestError(f"the shared memory object {key} cannot be opened: {error.strerror}", hint=_HINT) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RequestError(f"{key} is no shared memory object")
    return descriptor


def _require_within(offset: int, size: int, total: int, what: str) -> None:
    if offset < 0 or size < 0 or offset + size > total:
        raise RequestError(f"bytes {offset} to {offset + size} are not within {what}, which has {total}")
