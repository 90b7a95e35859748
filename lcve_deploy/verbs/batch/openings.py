"""Count workers that die while they open the key and the engine; Ray would restart them forever."""

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
    """A folder with one empty file, ``HOST.PID``, for each worker that has started to open and has not finished."""

    folder: Path

    def count_lost(self) -> int:
        """Return how many workers of this machine have died while opening since the last one that succeeded."""
        return len(self._stale_marks())

    @contextlib.contextmanager
    def mark_opening(self) -> Iterator[None]:
        """Mark this process as opening during the block. If the block succeeds, forget all lost workers."""
        mark = self.folder / f"{socket.gethostname()}.{os.getpid()}"
        mark.touch()
        yield
        for done in (mark, *self._stale_marks()):
            done.unlink(missing_ok=True)

    def _stale_marks(self) -> list[Path]:
        marks = self.folder.glob("*.*")
        return [mark for mark in marks if mark.stem == socket.gethostname() and not _is_running(int(mark.suffix[1:]))]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is running, as another user
        pass
    return True
