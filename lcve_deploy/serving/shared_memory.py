"""System shared memory: regions that clients on this machine register to pass clips and logits.

A region is read and written through its file descriptor and never mapped: a client that truncates a mapped region
would crash the server. Data is copied before it is validated, so a client cannot change it afterwards.
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
_HINT: Final = "start the server with --shared-memory, and run the client on the same machine"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A slice of a region: name of the region, offset and size in bytes."""

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
    """Registered shared memory regions of one server.

    Args:
        allowed: whether clients may register regions.
    """

    def __init__(self, *, allowed: bool) -> None:
        self._allowed, self._regions = allowed, dict[str, _Region]()

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Register a region and open its shared memory object.

        Args:
            name: name of the region, chosen by the client.
            key: name of the POSIX shared memory object, with or without a leading slash.
            offset, size: position of the region in the object, in bytes.

        Raises:
            RequestError: shared memory is off, the name is in use, the key is invalid, the region exceeds the object,
                or too many regions are registered.
        """
        if not self._allowed:
            raise RequestError("this server does not accept shared memory", hint=_HINT)
        if name in self._regions:
            raise RequestError(f"shared memory region {name[:200]!r} is already registered")
        if len(self._regions) >= _MAX_REGIONS:
            raise RequestError(f"at most {_MAX_REGIONS} shared memory regions may be registered")
        if not _KEY.fullmatch(key):
            raise RequestError("expected one name, such as /clips, as the key of a shared memory region")
        if not size:
            raise RequestError("expected at least one byte as the size of a shared memory region")
        descriptor = _open(key)
        try:
            _require_within(offset, size, os.fstat(descriptor).st_size, "the shared memory object")
        except RequestError:
            os.close(descriptor)
            raise
        self._regions[name] = _Region(key=key, offset=offset, size=size, descriptor=descriptor)

    def unregister(self, name: str = "") -> None:
        """Unregister a region, or all regions if the name is empty. Unknown names are ignored."""
        for known in [name] if name else list(self._regions):
            region = self._regions.pop(known, None)
            if region is not None:
                os.close(region.descriptor)

    def status(self, name: str = "") -> dict[str, dict[str, Any]]:
        """Return the fields of one region, or of all regions if the name is empty, by region name.

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
        """Return a copy of a slice of a region.

        Raises:
            UnknownModelError: no such region.
            RequestError: the slice exceeds the region, or the region was truncated.
        """
        region = self._get(part.region)
        _require_within(part.offset, part.size, region.size, f"shared memory region {part.region}")
        data = os.pread(region.descriptor, part.size, region.offset + part.offset)
        if len(data) != part.size:
            raise RequestError(f"shared memory region {part.region} was truncated")
        return data

    def write(self, part: Slice, data: bytes) -> None:
        """Write data to the beginning of a slice of a region.

        Raises:
            UnknownModelError: no such region.
            RequestError: the slice exceeds the region, is smaller than the data, or the region was truncated.
        """
        region = self._get(part.region)
        _require_within(part.offset, part.size, region.size, f"shared memory region {part.region}")
        if len(data) > part.size:
            raise RequestError(
                f"the output has {len(data)} bytes, but its slice of region {part.region} has {part.size}"
            )
        _require_within(
            region.offset + part.offset, len(data), os.fstat(region.descriptor).st_size, "the truncated object"
        )
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
        raise RequestError(f"{key} is not a shared memory object")
    return descriptor


def _require_within(offset: int, size: int, total: int, what: str) -> None:
    if offset < 0 or size < 0 or offset + size > total:
        raise RequestError(f"bytes {offset} to {offset + size} are not within {what}, which has {total} bytes")
