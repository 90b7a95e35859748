"""Structured logs: one JSON object per line, with names and numbers, never tensors or tokens.

A separate thread writes the log, so a slow reader or a full disk never delays a request. Lines that do not fit into
the queue are dropped.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Final

__all__ = ["logging_to_stderr"]

_ROOT: Final = "lcve_deploy.serving"
_MAX_QUEUED: Final = 10_000
_MAX_STOP_SECONDS: Final = 2.0
"""Seconds to wait for queued lines at the end. Limited, because the server must exit even if nothing reads its log."""
_STOP_RETRY_SECONDS: Final = 0.05
_STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object: time, level and event first, then the extra fields of the record."""
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **fields,
        }
        if record.exc_text:
            line["traceback"] = record.exc_text
        return json.dumps(line, default=str)


class _DroppingQueueHandler(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format only the traceback; the record stays in this process, so it need not be pickled."""
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop the line: the queue is full."""


class _DescriptorHandler(logging.Handler):
    """Write to a file descriptor from one thread, without locks and buffers that could block the end of the process."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def createLock(self) -> None:  # noqa: N802 (logging's name)
        """Create no lock: only one thread writes."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; drop it if the disk is full or the pipe is closed."""
        line = f"{self.format(record)}\n".encode()
        with contextlib.suppress(OSError):
            while line:
                line = line[os.write(self._descriptor, line) :]


@contextlib.contextmanager
def logging_to_stderr(level: str) -> Iterator[None]:
    """Write the server's log to standard error while the block runs.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    logger = logging.getLogger(_ROOT)
    writer = _DescriptorHandler(sys.stderr.fileno())
    writer.setFormatter(_JsonFormatter())
    records: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_QUEUED)
    listener, handler = QueueListener(records, writer), _DroppingQueueHandler(records)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
    listener.start()
    try:
        yield
    finally:
        logger.removeHandler(handler)
        stopping = threading.Thread(target=_stop, args=(listener,), daemon=True)
        stopping.start()
        stopping.join(_MAX_STOP_SECONDS)


def _stop(listener: QueueListener) -> None:
    """Write the queued lines and stop the thread; never returns if the log cannot be written."""
    while True:
        try:
            listener.stop()
        except queue.Full:
            time.sleep(_STOP_RETRY_SECONDS)
        else:
            return
