"""Counts of one model version, as the statistics extension of the protocol reports them."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from lcve_deploy.serving.models.batching import BatchResult, Run

__all__ = ["Duration", "Statistics"]


@dataclass(kw_only=True)
class Duration:
    """How often, and how many seconds in all."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count one more."""
        self.count += count
        self.seconds += seconds

    def to_json(self) -> dict[str, int]:
        """In nanoseconds."""
        return {"count": self.count, "ns": round(self.seconds * 1e9)}


@dataclass(kw_only=True)
class Statistics:
    """Of one model version, from its start."""

    success: Duration = field(default_factory=Duration)
    failure: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    batches: defaultdict[int, Duration] = field(default_factory=lambda: defaultdict(Duration))
    clips: int = 0
    executions: int = 0
    last_inference: float = 0.0

    def record_run(self, run: Run) -> None:
        """Count a run."""
        self.executions += 1
        self.batches[run.clips].add(run.seconds)

    def record_success(self, result: BatchResult, seconds: float) -> None:
        """Count a request that was answered after so many seconds in all."""
        self.clips += len(result.logits)
        self.last_inference = time.time()
        self.success.add(seconds)
        self.queue.add(result.queue_seconds)
        self.compute.add(result.run.seconds)

    def record_failure(self, seconds: float) -> None:
        """Count a request that was not answered."""
        self.failure.add(seconds)

    def to_json(self, name: str, version: str) -> dict[str, Any]:
        """The fields of ``ModelStatistics``; what comes before and after the engine is counted, and not measured."""
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
