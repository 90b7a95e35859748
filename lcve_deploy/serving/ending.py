"""The end of a server: one time limit for everything, kept even if a run of an engine does not end."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final

from lcve_deploy.serving.telemetry.logs import flush_log

__all__ = ["Ending"]

_LOG = logging.getLogger(__name__)

_CLOSING_SECONDS: Final = 0.5
"""Seconds after the grace in which connections and models are closed."""


class Ending:
    """Time limit of a shutdown.

    Args:
        grace: seconds to answer accepted requests after the server is told to stop.
    """

    def __init__(self, grace: float) -> None:
        self.grace, self._deadline, self._finished = grace, 0.0, threading.Event()

    def begin(self) -> None:
        """Start the time. Soon after it has passed, the process ends with status 0 unless ``finish`` was called.

        A run in an engine cannot be interrupted, and Python would wait for its thread.
        """
        self._deadline = time.monotonic() + self.grace
        threading.Thread(target=self._end_process, daemon=True).start()

    def finish(self) -> None:
        """Note that the server has ended by itself."""
        self._finished.set()

    @property
    def remaining(self) -> float:
        """Seconds that remain; 0 if the time has passed or has not begun."""
        return max(0.0, self._deadline - time.monotonic())

    def _end_process(self) -> None:
        if self._finished.wait(self.remaining + _CLOSING_SECONDS):
            return
        _LOG.warning("ended during a run", extra={"grace_seconds": self.grace})
        flush_log()
        os._exit(0)
