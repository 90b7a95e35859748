"""Workers that are lost while they open the key and the engine. Ray would start them again without end."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Openings"]


@dataclass(frozen=True, kw_only=True)
class Openings:
    """A folder with one empty file, ``HOST.PID``, for each worker that has begun to open and has not finished."""

    folder: Path

    def lost(self) -> int:
        """How many workers of this machine have ended while they opened, since the last that succeeded."""
        return len(self._of_ended())

    @contextlib.contextmanager
    def under_way(self) -> Iterator[None]:
        """While this process opens."""
        mark = self.folder / f"{socket.gethostname()}.{os.getpid()}"
        mark.touch()
        yield
        for done in (mark, *self._of_ended()):
            done.unlink(missing_ok=True)

    def _of_ended(self) -> list[Path]:
        marks = self.folder.glob("*.*")
        return [mark for mark in marks if mark.stem == socket.gethostname() and not _runs(int(mark.suffix[1:]))]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        pass
    return True
