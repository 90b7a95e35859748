"""Files of a folder that others can write to: opened without following links, read once, and held as they were read.

The folder itself may be a link. Below it, a link could point elsewhere by the time that it is followed, so there are
none: neither the file nor a folder above it.
"""

from __future__ import annotations

import errno
import hashlib
import io
import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

__all__ = ["Buffer", "HeldFile", "hold_file", "open_inside", "reason_not_opened"]

Buffer = bytes | bytearray | mmap.mmap

_WRITTEN: Final = ("st_size", "st_mtime_ns", "st_ctime_ns")
"""What shows that a file was written to."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def open_inside(root: Path, name: str) -> io.FileIO:
    """Open a regular file below a folder, for reading without a buffer.

    Args:
        root: the folder.
        name: path below it, with forward slashes.

    Raises:
        OSError: there is no such file, it is not a regular one, or it or a folder above it is a link.
    """
    *folders, last = PurePosixPath(name).parts
    descriptor = os.open(root, _FOLDER)
    try:
        for folder in folders:
            inner = os.open(folder, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        file = os.open(last, _FILE, dir_fd=descriptor)
    finally:
        os.close(descriptor)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", str(root / name))
    return io.FileIO(file)


def reason_not_opened(root: Path, name: str) -> str:
    """Say why ``open_inside`` failed: the file is a link or below one, no regular file, or missing."""
    path = root / name
    above = [path, *(parent for parent in path.parents if parent != root and parent.is_relative_to(root))]
    linked = next((place for place in reversed(above) if place.is_symlink()), None)
    if linked is None:
        return f"{name} is not a regular file" if path.exists() else f"{name} is missing"
    return f"{linked.relative_to(root).as_posix()} is a link, and an artifact has none"


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldFile:
    """The content of a file, as it was read or mapped.

    Args:
        data: its bytes; writable memory of this process. Writing to it does not change the file.
        file: the file, if ``data`` is a private mapping of it, which may show later writes to it.
        status: of the file when it was opened.
        sha256: of ``data``, 64 hex digits, once it was checked.
    """

    data: Buffer
    file: io.FileIO | None
    status: os.stat_result
    sha256: str = ""

    @property
    def changed(self) -> bool:
        """Whether a mapped file was written to since it was opened.

        Its times change, too, if it is replaced by another; then the digest of the mapping tells.
        """
        if self.file is None:
            return False
        now = os.fstat(self.file.fileno())
        if now.st_size != self.status.st_size:  # reading what was cut off would end the process
            return True
        if all(getattr(now, name) == getattr(self.status, name) for name in _WRITTEN):
            return False
        return hashlib.sha256(self.data).hexdigest() != self.sha256


def hold_file(file: io.FileIO, *, mapped: bool) -> HeldFile:
    """Read an open file whole, or map it.

    Args:
        file: from ``open_inside``.
        mapped: map it, which costs no memory of its own: pages come from the file when they are used.
    """
    status = os.fstat(file.fileno())
    if mapped and status.st_size:
        own = io.FileIO(os.dup(file.fileno()))
        data = mmap.mmap(own.fileno(), status.st_size, access=mmap.ACCESS_COPY)
        return HeldFile(data=data, file=own, status=status)
    content = bytearray(status.st_size)
    done = 0
    with memoryview(content) as view:
        while done < len(content) and (read := file.readinto(view[done:])):
            done += read
    del content[done:]
    return HeldFile(data=content, file=None, status=status)
