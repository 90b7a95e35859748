"""Statistics of one model version, as the statistics extension of the protocol reports them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from lcve_deploy.serving.models.batching import BatchResult, Run

__all__ = ["Duration", "Statistics"]


@dataclass(kw_only=True)
class Duration:
    """A count, and a total of seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Add to the count and the total."""
        self.count += count
        self.seconds += seconds

    def to_json(self) -> dict[str, int]:
        """Return the fields of ``StatisticDuration``, with the total in nanoseconds."""
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


@dataclass(kw_only=True)
class Statistics:
    """Statistics of one model version since it was loaded.

    Args:
        success, failure: answered and failed requests, with their total durations.
        queue, compute: answered requests, with their time in the queue and in runs.
        batches: runs by batch size.
        clips: clips of answered requests.
        executions: runs.
        last_inference: time of the last answer, in seconds since the epoch; 0 if there is none.
    """

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    clips: int = 0
    executions: int = 0
    last_inference: float = 0.0

    def record_run(self, run: Run) -> None:
        """Count one run."""
        self.executions += 1
        self.batches[run.clips].add(run.seconds)

    def record_success(self, result: BatchResult, seconds: float) -> None:
        """Count one answered request, with its total duration in seconds."""
        self.clips += len(result.logits)
        self.last_inference = time.time()
        self.success.add(seconds)
        self.queue.add(result.queue_seconds)
        self.compute.add(result.run.seconds)

    def record_failure(self, seconds: float) -> None:
        """Count one failed request, with its total duration in seconds."""
        self.failure.add(seconds)

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """Return the fields of ``ModelStatistics``. Input and output processing is counted, but not timed."""
        none, unmeasured = Duration().to_json(), Duration(count=self.success.count).to_json()
        return {
            "name": name,
            "version": version,
            "last_inference": round(self.last_inference * 1e3),
            "inference_count": self.clips,
            "execution_count": self.executions,
            "inference_stats": {
                "success": self.success.to_json(),
                "fail": self.failure.to_json(),
                "queue": self.queue.to_json(),
                "compute_input": unmeasured,
                "compute_infer": self.compute.to_json(),
                "compute_output": unmeasured,
                "cache_hit": none,
                "cache_miss": none,
            },
            "batch_stats": [
                {
                    "batch_size": size,
                    "compute_input": Duration(count=spent.count).to_json(),
                    "compute_infer": spent.to_json(),
                    "compute_output": Duration(count=spent.count).to_json(),
                }
                for size, spent in sorted(self.batches.items())
            ],
        }
