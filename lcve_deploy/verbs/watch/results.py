"""What becomes of a window."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lcve_deploy.client import Prediction
from lcve_deploy.video.moments import Moment

__all__ = ["Counts", "Latency", "Outcome", "WindowResult"]


class Outcome(StrEnum):
    """How a window ended."""

    ANSWERED = "answered"
    DROPPED = "dropped"
    """Never sent: newer windows took its place, or the watch was stopped."""
    FAILED = "failed"
    """Sent, and not answered."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Where the time went between the reading of a window's last frame and the answer; seconds, monotonic clock.

    Args:
        assembly: frames to a clip.
        waiting: for the encryption, and for a free request.
        encryption: of the clip.
        request: to the server and back, its retries included, and reading the logits.
    """

    assembly: float
    waiting: float = 0.0
    encryption: float = 0.0
    request: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.assembly + self.waiting + self.encryption + self.request

    def to_json(self) -> dict[str, float]:
        """Milliseconds by name."""
        return {name: round(1000 * seconds, 3) for name, seconds in {**asdict(self), "total": self.total}.items()}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What has been so far.

    Args:
        answered: windows with predictions.
        dropped: windows that were not sent.
        failed: windows that were sent, and not answered.
        reconnects: how often the source was opened again.
        damaged: frames that could not be decoded.
    """

    answered: int = 0
    dropped: int = 0
    failed: int = 0
    reconnects: int = 0
    damaged: int = 0

    @property
    def windows(self) -> int:
        """All windows."""
        return self.answered + self.dropped + self.failed

    def to_json(self) -> dict[str, int]:
        """Numbers by name."""
        return {"windows": self.windows, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class WindowResult:
    """One window, without its frames.

    Args:
        number: from 0.
        first: when its first frame was.
        last: when its last frame was.
        outcome: how it ended.
        predictions: most probable first; none unless it was answered.
        latency: None where it was dropped.
        error: why it failed; empty otherwise.
        counts: up to and with this window.
    """

    number: int
    first: Moment
    last: Moment
    outcome: Outcome
    predictions: tuple[Prediction, ...] = ()
    latency: Latency | None = None
    error: str = ""
    counts: Counts = Counts()

    def to_json(self) -> dict[str, Any]:
        """As plain values; ``predictions`` or ``error`` only if there are any."""
        told: dict[str, Any] = {
            "window": self.number,
            "outcome": self.outcome.value,
            "first": _moment_json(self.first),
            "last": _moment_json(self.last),
        }
        if self.latency:
            told["latency_ms"] = self.latency.to_json()
        if self.predictions:
            told["predictions"] = [prediction.to_json() for prediction in self.predictions]
        if self.error:
            told["error"] = self.error
        return {**told, "counts": self.counts.to_json()}


def _moment_json(moment: Moment) -> dict[str, Any]:
    time = moment.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"frame": moment.frame, "time": time, "position": round(moment.position, 6)}
