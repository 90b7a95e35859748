"""Structured logs: one JSON object a line. They hold names and numbers, never tensors or tokens.

A thread of its own writes them. So a slow or full place to write to never holds up a request; what does not fit
into the queue is left out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Final

__all__ = ["logging_to_stderr"]

_ROOT: Final = "lcve_deploy.serving"
_MOST: Final = 10_000
_PATIENCE: Final = 2.0
"""Seconds that the end of a log may take, twice."""
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Time, level and event first, then what the call names."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, default=str)


class _Dropping(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is: it stays in this process."""
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A full queue: the line is left out."""


class _Writing(logging.StreamHandler):  # type: ignore[type-arg]
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """A full disk or a closed pipe: the line is left out."""


@contextlib.contextmanager
def logging_to_stderr(level: str) -> Iterator[None]:
    """Write the server's log to standard error while the block runs.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    logger = logging.getLogger(_ROOT)
    writer = _Writing(sys.stderr)
    writer.setFormatter(_Json())
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(_MOST)
    listener, handler = QueueListener(waiting, writer), _Dropping(waiting)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(handler)
        _stop(listener, waiting)


def _stop(listener: QueueListener, waiting: queue.Queue[logging.LogRecord]) -> None:
    """Write what waits, for a while: nobody may be reading, and a server must end all the same."""
    thread, listener._thread = listener._thread, None
    with contextlib.suppress(queue.Full):
        waiting.put(listener._sentinel, timeout=_PATIENCE)
        if thread is not None:
            thread.join(_PATIENCE)
