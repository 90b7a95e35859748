"""What it took to run clips on a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lcve_deploy.remote.transport import Logits, LogitsReply

__all__ = ["MeasuredRun"]


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredRun:
    """Logits, and what the requests that were answered took. Attempts that failed are not counted.

    Args:
        logits: float32 ``[clips, classes]``, or ``[clips, ...]`` of another output.
        sent_bytes: bytes of the bodies (HTTP) or messages (gRPC) of the requests; 0 if nothing was sent, or through
            shared memory.
        server_seconds: from each complete request to its answer, as the server states it; None if it does not.
    """

    logits: Logits
    sent_bytes: int = 0
    server_seconds: float | None = None

    @classmethod
    def of(cls, replies: Sequence[LogitsReply]) -> Self:
        """Join the answers of one or more requests."""
        seconds = [reply.server_seconds for reply in replies if reply.server_seconds is not None]
        return cls(
            logits=np.concatenate([reply.logits for reply in replies]),
            sent_bytes=sum(reply.sent_bytes for reply in replies),
            server_seconds=sum(seconds) if len(seconds) == len(replies) else None,
        )
