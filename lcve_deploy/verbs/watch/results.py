"""Results of windows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from lcve_deploy.client import Prediction
from lcve_deploy.video.moments import Moment

__all__ = ["Counts", "Latency", "Outcome", "WindowResult"]


class Outcome(StrEnum):
    """Outcome of a window."""

    ANSWERED = "answered"
    DROPPED = "dropped"
    """Not sent: replaced by newer windows, or the watch was stopped."""
    FAILED = "failed"
    """Sent, but the request failed."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Time from reading the last frame of a window to its result, in seconds of the monotonic clock.

    Args:
        assembly: preparing the clip from frames.
        waiting: waiting in both queues.
        encryption: encrypting the clip.
        request: request to the server, including retries, and reading the logits.
    """

    assembly: float
    waiting: float = 0.0
    encryption: float = 0.0
    request: float = 0.0

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return self.assembly + self.waiting + self.encryption + self.request

    def to_json(self) -> dict[str, float]:
        """Return milliseconds by name."""
        return {name: round(1000 * seconds, 3) for name, seconds in {**asdict(self), "total": self.total}.items()}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts since the start.

    Args:
        answered: windows with predictions.
        dropped: windows that were not sent.
        failed: windows whose request failed.
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
        """Number of all windows."""
        return self.answered + self.dropped + self.failed

    def to_json(self) -> dict[str, int]:
        """Return counts by name."""
        return {"windows": self.windows, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class WindowResult:
    """Result of one window, without its frames.

    Args:
        number: number of the window, from 0.
        first: time of its first frame.
        last: time of its last frame.
        outcome: what happened to it.
        predictions: most probable first; empty unless it was answered.
        latency: None if it was dropped.
        error: why it failed; empty otherwise.
        hint: what to do about it; empty if there is nothing to say.
        counts: counts up to and including this window.
    """

    number: int
    first: Moment
    last: Moment
    outcome: Outcome
    predictions: tuple[Prediction, ...] = ()
    latency: Latency | None = None
    error: str = ""
    hint: str = ""
    counts: Counts = Counts()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values, without latency, predictions, error and hint if there are none."""
        fields: dict[str, Any] = {
            "window": self.number,
            "outcome": self.outcome.value,
            "first": _moment_json(self.first),
            "last": _moment_json(self.last),
        }
        if self.latency:
            fields["latency_ms"] = self.latency.to_json()
        if self.predictions:
            fields["predictions"] = [prediction.to_json() for prediction in self.predictions]
        if self.error:
            fields["error"] = self.error
        if self.hint:
            fields["hint"] = self.hint
        return {**fields, "counts": self.counts.to_json()}


def _moment_json(moment: Moment) -> dict[str, Any]:
    time = moment.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"frame": moment.frame, "time": time, "position": round(moment.position, 6)}
