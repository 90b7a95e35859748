"""System shared memory: regions that clients on this machine register to pass clips and logits.

A region belongs to the client that registered it: no other client can use, list or unregister it, or register the same
object. A client opens an object by name, and the server opens it for the client. So the server opens only objects that
it is told to: names with a prefix, and objects of its own user or of users that the operator named.

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
from lcve_deploy.serving.settings import SharedMemory

__all__ = ["ClientRegions", "Regions", "Slice"]

_ROOT: Final = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory lives on Linux)
_KEY: Final = re.compile(r"/?(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,199})")
_MAX_REGIONS: Final = 256
_MAX_CLIENT_REGIONS: Final = 64
_HINT: Final = "start the server with --shared-memory, and run the client on the same machine"
_OWNER_HINT: Final = (
    "the object needs the server's prefix (--shared-memory-prefix), must be a regular file of the server's user or of "
    "--shared-memory-user, and not another client's"
)


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
    file: tuple[int, int]


class Regions:
    """Registered shared memory regions of one server.

    Args:
        allowed: which objects clients may register; None if none.
    """

    def __init__(self, allowed: SharedMemory | None) -> None:
        self.allowed = allowed
        self._clients: dict[str, dict[str, _Region]] = {}

    def of(self, client: str, *, is_local: bool) -> ClientRegions:
        """Return the regions of one client.

        Args:
            client: name of the client; empty for all clients of a server without tokens, which cannot distinguish them.
            is_local: whether the client is on this machine.
        """
        return ClientRegions(self, self._clients.setdefault(client, {}), is_local=is_local)

    @property
    def count(self) -> int:
        """Number of regions of all clients."""
        return sum(map(len, self._clients.values()))

    def is_registered_by_others(self, file: tuple[int, int], regions: dict[str, _Region]) -> bool:
        """Return whether a file is registered by any client but the one with these regions."""
        return any(
            region.file == file
            for others in self._clients.values()
            if others is not regions
            for region in others.values()
        )

    def close(self) -> None:
        """Unregister all regions of all clients."""
        for regions in self._clients.values():
            ClientRegions(self, regions, is_local=True).unregister()


class ClientRegions:
    """Regions of one client.

    Args:
        server: regions of the server.
        regions: those of the client, by name.
        is_local: whether the client is on this machine; another one cannot register regions.
    """

    def __init__(self, server: Regions, regions: dict[str, _Region], *, is_local: bool) -> None:
        self._server, self._regions, self._is_local = server, regions, is_local

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Register a region and open its shared memory object.

        Args:
            name: name of the region, chosen by the client.
            key: name of the POSIX shared memory object, with or without a leading slash.
            offset, size: position of the region in the object, in bytes.

        Raises:
            RequestError: shared memory is off, the name is in use, the key is invalid or not this client's, the region
                exceeds the object, or too many regions are registered.
        """
        allowed = self._server.allowed
        if allowed is None:
            raise RequestError("this server does not accept shared memory", hint=_HINT)
        if not self._is_local:
            raise RequestError(
                "shared memory is for clients on the server's machine, at a loopback address", hint=_HINT
            )
        if name in self._regions:
            raise RequestError(f"shared memory region {name[:200]!r} is already registered")
        self._require_capacity()
        if not size:
            raise RequestError("expected at least one byte as the size of a shared memory region")
        descriptor = _open(key, allowed)
        try:
            status = os.fstat(descriptor)
            file = (status.st_dev, status.st_ino)
            if self._server.is_registered_by_others(file, self._regions):
                raise _refusal(key)
            _require_within(offset, size, status.st_size, "the shared memory object")
        except RequestError:
            os.close(descriptor)
            raise
        self._regions[name] = _Region(key=key, offset=offset, size=size, descriptor=descriptor, file=file)

    def unregister(self, name: str = "") -> None:
        """Unregister a region, or all regions of the client if the name is empty. Unknown names are ignored."""
        for known in [name] if name else list(self._regions):
            region = self._regions.pop(known, None)
            if region is not None:
                os.close(region.descriptor)

    def status(self, name: str = "") -> dict[str, dict[str, Any]]:
        """Return the fields of one region, or of all regions of the client if the name is empty, by region name.

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
            RequestError: the slice exceeds the region, is smaller than the data, the region was truncated, or the
                machine's shared memory is full.
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
        try:
            written = os.pwrite(region.descriptor, data, region.offset + part.offset)
        except OSError as error:
            raise RequestError(f"shared memory region {part.region} cannot be written: {error.strerror}") from None
        if written != len(data):
            raise RequestError(f"shared memory region {part.region} took {written} of {len(data)} bytes")

    def _require_capacity(self) -> None:
        """Check how many regions there are. If they are too many, those whose object was removed are unregistered."""
        if len(self._regions) >= _MAX_CLIENT_REGIONS:
            for name, region in list(self._regions.items()):
                if not os.fstat(region.descriptor).st_nlink:
                    self.unregister(name)
        if len(self._regions) >= _MAX_CLIENT_REGIONS:
            raise RequestError(f"at most {_MAX_CLIENT_REGIONS} shared memory regions of one client may be registered")
        if self._server.count >= _MAX_REGIONS:
            raise RequestError(f"at most {_MAX_REGIONS} shared memory regions may be registered")

    def _get(self, name: str) -> _Region:
        if name not in self._regions:
            raise UnknownModelError(f"there is no shared memory region {name[:200]!r}", hint="register it first")
        return self._regions[name]


def _open(key: str, allowed: SharedMemory) -> int:
    """Open a shared memory object.

    Raises:
        RequestError: the key is no name, or there is no such object that may be opened. The message does not tell which
            objects there are.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise RequestError("expected one name, such as /lcve_clips, as the key of a shared memory region")
    if not match["name"].startswith(allowed.prefix):
        raise _refusal(key)
    try:
        descriptor = os.open(_ROOT / match["name"], os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise _refusal(key) from None
    if not _may_open(os.fstat(descriptor), allowed):
        os.close(descriptor)
        raise _refusal(key)
    return descriptor


def _may_open(status: os.stat_result, allowed: SharedMemory) -> bool:
    """Return whether an object is a regular file of an allowed user, with one name, and in shared memory."""
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid in (os.geteuid(), *allowed.users)
        and status.st_nlink == 1
        and status.st_dev == _ROOT.stat().st_dev
    )


def _refusal(key: str) -> RequestError:
    return RequestError(f"the shared memory object {key[:200]!r} cannot be opened for this client", hint=_OWNER_HINT)


def _require_within(offset: int, size: int, total: int, what: str) -> None:
    if offset < 0 or size < 0 or offset + size > total:
        raise RequestError(f"bytes {offset} to {offset + size} are not within {what}, which has {total} bytes")
