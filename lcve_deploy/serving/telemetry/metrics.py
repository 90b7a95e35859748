"""Prometheus metrics of the server."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from lcve_deploy.libraries.requiring import require
from lcve_deploy.serving.models.batching import BatchResult, Run

__all__ = ["CONTENT_TYPE", "MAX_KEY_LABELS", "KeyMetrics", "Metrics"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

MAX_KEY_LABELS: Final = 256
"""Maximum number of key folders with a label of their own; all others share one."""

_OTHER_KEYS: Final = "other"
_KEY_STATES: Final = ("ready", "checking", "failed", "hot")
_MODEL: Final = ("model", "version")
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CLIPS: Final = (1, 2, 4, 8, 16, 32, 64)


class KeyMetrics:
    """Counts of the keys of one model. The number of labels is bounded, however many key folders come and go.

    Args:
        clips: counts clips of a key folder, by its name.
        forget: forgets the counts of a key folder.
        load: counts a cold key that was loaded; threads may call it.
        eviction: counts a key that lost its row to another; threads may call it.
    """

    def __init__(
        self,
        *,
        clips: Callable[[str, int], None],
        forget: Callable[[str], None],
        load: Callable[[], None],
        eviction: Callable[[], None],
    ) -> None:
        self.record_clips, self.forget, self.record_load, self.record_eviction = clips, forget, load, eviction


class Metrics:
    """Metrics of one server, in a Prometheus registry of its own.

    Raises:
        MissingDependencyError: prometheus-client is not installed.
    """

    def __init__(self) -> None:
        with require("serving needs prometheus-client", extra="serve,cpu"):
            import prometheus_client as prometheus
        self._registry = registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=registry)
        self._generate = prometheus.generate_latest
        self._labelled = functools.cache(_labelled)

        def counter(name: str, text: str, labels: Iterable[str]) -> prometheus.Counter:
            return prometheus.Counter(f"lcve_{name}", text, tuple(labels), registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> prometheus.Histogram:
            return prometheus.Histogram(f"lcve_{name}", text, _MODEL, buckets=buckets, registry=registry)

        self._requests = counter("requests", "Requests by status code", ("model", "protocol", "code"))
        self._loads = counter("model_loads", "Attempts to load a model version", ("model", "result"))
        self._closed = counter("closed_connections", "HTTP connections closed because of a limit", ("reason",))
        self._clips = counter("clips", "Clips of answered requests", _MODEL)
        self._packed = counter("packed_bytes", "Bytes of packed clips that were received", _MODEL)
        self._unpacked = counter("unpacked_bytes", "Bytes that the same clips have without compression", _MODEL)
        self._latency = prometheus.Histogram(
            "lcve_request_seconds",
            "Time from the arrival of a request to its response",
            ("model", "protocol"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._queue = histogram("queue_seconds", "Time that a request waits for its run", _SECONDS)
        self._run = histogram("run_seconds", "Duration of a run of the engine", _SECONDS)
        self._batch = histogram("batch_clips", "Clips in a run", _CLIPS)
        self._waiting = prometheus.Gauge("lcve_queue_clips", "Clips in the queue", ("model",), registry=registry)
        self._key_clips = counter("key_clips", "Clips of answered requests by key folder", ("model", "key"))
        self._key_loads = counter("key_loads", "Cold keys whose tensors were loaded", ("model",))
        self._key_evictions = counter("key_evictions", "Keys that lost their rows to others", ("model",))
        self._keys = prometheus.Gauge("lcve_keys", "Keys by state", ("model", "state"), registry=registry)
        self._key_labels: set[tuple[str, str]] = set()
        self._pending = prometheus.Gauge("lcve_pending_requests", "Requests in progress", registry=registry)
        self._version = prometheus.Gauge("lcve_model_version", "Highest served version", ("model",), registry=registry)

    def record_request(self, model: str, protocol: str, code: str, seconds: float) -> None:
        """Count a request, and its duration in seconds unless the client gave up: such a request has no response.

        ``model`` must be empty for an unknown model, so that clients cannot create labels.
        """
        self._labelled(self._requests, model, protocol, code).inc()
        if code != "CANCELLED":
            self._labelled(self._latency, model, protocol).observe(seconds)

    def record_closed(self, reason: str) -> None:
        """Count a connection that was closed or refused because of a limit."""
        self._closed.labels(reason).inc()

    def record_inference(self, model: str, version: str, result: BatchResult) -> None:
        """Count the clips of an answered request and its time in the queue."""
        self._labelled(self._clips, model, version).inc(len(result.logits))
        self._labelled(self._queue, model, version).observe(result.queue_seconds)

    def record_packed(self, model: str, version: str, received: int, unpacked: int) -> None:
        """Count the bytes of packed clips, and those that the same clips have without compression, one a value."""
        self._labelled(self._packed, model, version).inc(received)
        self._labelled(self._unpacked, model, version).inc(unpacked)

    def record_run(self, model: str, version: str, run: Run) -> None:
        """Count a run: its clips and duration."""
        self._labelled(self._run, model, version).observe(run.seconds)
        self._labelled(self._batch, model, version).observe(run.clips)

    def record_load(self, model: str, *, ok: bool) -> None:
        """Count an attempt to load a version."""
        self._loads.labels(model, "ok" if ok else "failed").inc()

    def set_version(self, model: str, version: int) -> None:
        """Set the highest served version of a model."""
        self._version.labels(model).set(version)

    def watch_queue(self, model: str, length: Callable[[], float]) -> None:
        """Call ``length`` for the number of queued clips of a model whenever metrics are read."""
        self._waiting.labels(model).set_function(length)

    def watch_keys(self, model: str, counts: Callable[[], Mapping[str, int]]) -> None:
        """Call ``counts`` for the number of a model's keys by state whenever metrics are read."""
        for state in _KEY_STATES:
            self._keys.labels(model, state).set_function(partial(_count, counts, state))

    def of_keys(self, model: str) -> KeyMetrics:
        """Return the counts of a model's keys."""
        return KeyMetrics(
            clips=partial(self._record_key, model),
            forget=partial(self._forget_key, model),
            load=self._key_loads.labels(model).inc,
            eviction=self._key_evictions.labels(model).inc,
        )

    def _record_key(self, model: str, name: str, clips: int) -> None:
        if (model, name) not in self._key_labels:
            if len(self._key_labels) < MAX_KEY_LABELS:
                self._key_labels.add((model, name))
            else:
                name = _OTHER_KEYS
        self._key_clips.labels(model, name).inc(clips)

    def _forget_key(self, model: str, name: str) -> None:
        if (model, name) in self._key_labels:
            self._key_labels.discard((model, name))
            self._key_clips.remove(model, name)

    def watch_pending(self, count: Callable[[], float]) -> None:
        """Call ``count`` for the number of requests in progress whenever metrics are read."""
        self._pending.set_function(count)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        written: bytes = self._generate(self._registry)
        return written


def _count(counts: Callable[[], Mapping[str, int]], state: str) -> int:
    return counts().get(state, 0)


def _labelled(metric: Any, *labels: str) -> Any:
    """Return the child of a metric with these labels; Prometheus keeps it for as long as the metric."""
    return metric.labels(*labels)
