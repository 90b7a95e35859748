"""Structured logs: one JSON object per line, with names and numbers, never tensors or tokens.

A separate thread writes the log, so a slow reader or a full disk never delays a request. It writes lines that follow
each other quickly together: to wake it for each of them would cost a small request a tenth of its time. Lines that do
not fit into the queue are dropped. Records of libraries and warnings go through the same log, shortened and without
what looks like a token; only errors of this package have tracebacks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final

__all__ = ["flush_log", "logging_to_stderr", "silence_grpc"]

_ROOT: Final = "lcve_deploy.serving"
_MAX_QUEUED: Final = 10_000
_MAX_TOGETHER: Final = 256
"""Maximum lines that are written together."""
_PAUSE_SECONDS: Final = 0.02
"""Seconds after a write until the next, so that lines collect."""
_MAX_STOP_SECONDS: Final = 2.0
"""Seconds to wait for queued lines at the end. Limited, because the server must exit even if nothing reads its log."""
_STOP_RETRY_SECONDS: Final = 0.05
_STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_UNUSED: Final = ("logThreads", "logProcesses", "logMultiprocessing", "logAsyncioTasks")
"""Switches of what Python collects for every record, and no line of this log contains."""
_MAX_LIBRARY_TEXT: Final = 500
_SECRET: Final = re.compile(r"(?i)\b(authorization|bearer|basic)\b.*", re.DOTALL)


_ENCODER: Final = json.JSONEncoder(default=str)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Return a JSON object: time, level and event first, then the extra fields of the record."""
        return _ENCODER.encode(_fields(record))


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    line = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
    }
    if not _is_ours(record):
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        text = _without_secrets(record.getMessage())[:_MAX_LIBRARY_TEXT]
        return line | {"event": "library message", "library": record.name, "text": text, "error": error}
    fields = {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
    line |= {"event": record.getMessage(), **fields}
    if record.exc_text:
        line["traceback"] = _without_secrets(record.exc_text)
    return line


def _is_ours(record: logging.LogRecord) -> bool:
    return record.name == _ROOT or record.name.startswith(f"{_ROOT}.")


def _without_secrets(text: str) -> str:
    """Return a text of several lines, each cut where a token may follow."""
    return "\n".join(_SECRET.sub(r"\1 [removed]", line) for line in text.splitlines())


class _DroppingQueueHandler(QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format only the traceback; the record stays in this process, so it need not be pickled."""
        if record.exc_info and _is_ours(record):
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Drop the line: the queue is full."""


class _DescriptorHandler(logging.Handler):
    """Write to a file descriptor from one thread, without locks and buffers that could block the end of the process.

    A line is written completely or not at all: if the disk is full in the middle of a line, its rest is written before
    the next line.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor, self._rest, self._dropped = descriptor, b"", 0
        self._lines: list[bytes] = []

    def createLock(self) -> None:  # noqa: N802 (logging's name)
        """Create no lock: only one thread writes."""
        self.lock = None

    @property
    def is_full(self) -> bool:
        """Whether as many lines are kept as may be written together."""
        return len(self._lines) >= _MAX_TOGETHER

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line until ``write_kept``."""
        self._lines.append(self._line(record))

    def write_kept(self) -> None:
        """Write the lines; drop those for which the disk has no space, or all if the pipe is closed.

        A later line has the number of those that were dropped.
        """
        lines, self._lines = self._lines, []
        self._rest = self._write(self._rest)
        if self._rest or not lines:
            self._dropped += len(lines)
            return
        notice = [self._line(_dropped(self._dropped))] if self._dropped else []
        lines = notice + lines
        left = len(self._write(b"".join(lines)))
        unwritten = 0
        while left and left >= len(lines[-1 - unwritten]):
            left -= len(lines[-1 - unwritten])
            unwritten += 1
        self._rest = lines[-1 - unwritten][-left:] if left else b""
        if unwritten == len(lines):  # not even the notice, if there is one
            self._dropped += unwritten - len(notice)
        else:
            self._dropped = unwritten

    def _line(self, record: logging.LogRecord) -> bytes:
        return f"{self.format(record)}\n".encode()

    def _write(self, data: bytes) -> bytes:
        """Write as many bytes as possible, and return the others."""
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._descriptor, data) :]
        return data


class _Listener(QueueListener):
    """Pass records on, and have them written once no more wait."""

    def __init__(self, records: queue.Queue[logging.LogRecord], writer: _DescriptorHandler) -> None:
        super().__init__(records, writer)
        self._records, self._writer = records, writer

    def handle(self, record: logging.LogRecord) -> None:
        """Pass on one record."""
        super().handle(record)
        if self._records.empty() or self._writer.is_full:
            self._writer.write_kept()
            time.sleep(_PAUSE_SECONDS if self._records.empty() else 0)

    def stop(self) -> None:
        """Write the lines that remain, and end the thread."""
        super().stop()
        self._writer.write_kept()


def _dropped(count: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": _ROOT, "levelname": "WARNING", "msg": "log lines dropped", "lines": count, "created": time.time()}
    )


@contextlib.contextmanager
def logging_to_stderr(level: str) -> Iterator[None]:
    """Write the server's log, the warnings of libraries and Python's warnings to standard error while the block runs.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    ours, libraries = logging.getLogger(_ROOT), logging.getLogger()
    writer = _DescriptorHandler(sys.stderr.fileno())
    writer.setFormatter(_JsonFormatter())
    records: queue.Queue[logging.LogRecord] = queue.Queue(_MAX_QUEUED)
    listener, handler, other = _Listener(records, writer), *(_DroppingQueueHandler(records) for _ in range(2))
    other.setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    ours.addHandler(handler)
    libraries.addHandler(other)
    ours.setLevel(level.upper())
    ours.propagate = False
    collected = {name: getattr(logging, name) for name in _UNUSED if hasattr(logging, name)}
    _set_collected(dict.fromkeys(collected, False))
    shown = warnings.showwarning
    warnings.showwarning = _log_warning
    listener.start()
    try:
        yield
    finally:
        warnings.showwarning = shown
        _set_collected(collected)
        libraries.removeHandler(other)
        ours.removeHandler(handler)
        stopping = threading.Thread(target=_stop, args=(listener,), daemon=True)
        stopping.start()
        stopping.join(_MAX_STOP_SECONDS)


def _set_collected(switches: dict[str, bool]) -> None:
    """Set what Python collects for every record. Source: Logging HOWTO, optimization."""
    for name, value in switches.items():
        setattr(logging, name, value)


def flush_log() -> None:
    """Wait until the queued lines are written, for at most some seconds."""
    end = time.monotonic() + _MAX_STOP_SECONDS
    queues = [handler.queue for handler in logging.getLogger(_ROOT).handlers if isinstance(handler, QueueHandler)]
    while any(getattr(lines, "unfinished_tasks", 0) for lines in queues) and time.monotonic() < end:
        time.sleep(_STOP_RETRY_SECONDS)


def silence_grpc() -> None:
    """Tell gRPC to write nothing to standard error by itself; call this before it is imported.

    Its lines are not JSON, and any client can cause them. The operator can set the variable otherwise.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def _log_warning(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
    """Log a warning of this package or of Python as one line of JSON, in which control characters are escaped."""
    fields = {"category": category.__name__, "text": str(message)[:_MAX_LIBRARY_TEXT]}
    logging.getLogger(_ROOT).warning("warning", extra=fields)


def _stop(listener: QueueListener) -> None:
    """Write the queued lines and stop the thread; never returns if the log cannot be written."""
    while True:
        try:
            listener.stop()
        except queue.Full:
            time.sleep(_STOP_RETRY_SECONDS)
        else:
            return
