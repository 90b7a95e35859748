"""Models of a server: which versions are served, and how changes of their folders take effect.

A new version is opened and probed while the others are served. It replaces an older one only if it passes; the older
version still answers the requests that it has accepted. A version that fails to load does not affect the others.
Keys come, change and go by themselves: see ``keys``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from dataclasses import dataclass

from lcve_deploy.errors import LcveError, UnavailableError, UnknownModelError
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.serving.models.loading import load_model
from lcve_deploy.serving.models.served import ServedModel, Threads
from lcve_deploy.serving.models.versions import FolderVersion, find_versions
from lcve_deploy.serving.settings import ModelSource, ServerSettings
from lcve_deploy.serving.telemetry.metrics import Metrics

__all__ = ["Failure", "Registry"]

_LOG = logging.getLogger(__name__)

_MIN_BACKOFF = 1.0
_MAX_BACKOFF = 60.0


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A version that failed to load.

    Args:
        digest: digest of its manifest; empty if the folder of the model could not be read.
        reason: error message.
        backoff: seconds until the next attempt.
        retry_at: time of the next attempt, in monotonic seconds.
    """

    digest: str
    reason: str
    backoff: float
    retry_at: float


class Registry:
    """All models of a server. Use it on one event loop only.

    Args:
        settings: configuration of the server.
        threads: executors.
        metrics: metrics, updated with every load and run.
    """

    def __init__(self, settings: ServerSettings, threads: Threads, metrics: Metrics) -> None:
        self._settings, self._threads, self._metrics = settings, threads, metrics
        self._sources = {source.name: source for source in settings.sources}
        self._served: dict[str, dict[int, ServedModel]] = {name: {} for name in self._sources}
        self._failed: dict[tuple[str, int], Failure] = {}
        self._refresh_lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        for name in self._sources:
            metrics.watch_queue(name, lambda name=name: self.waiting(name))  # type: ignore[misc]
            metrics.watch_keys(name, lambda name=name: self._key_counts(name))  # type: ignore[misc]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all models, served or not."""
        return tuple(self._sources)

    @property
    def ready(self) -> bool:
        """Whether every model has a served version."""
        return all(self._served.values())

    @property
    def run_seconds(self) -> float | None:
        """Expected seconds until a run ends and requests are answered; None if no run was measured."""
        models = [model for served in self._served.values() for model in served.values()]
        return min((model.run_seconds for model in models if model.run_seconds is not None), default=None)

    def waiting(self, name: str) -> int:
        """Return the number of queued clips of a model, over all of its served versions."""
        return sum(model.waiting for model in self._served[name].values())

    def versions(self, name: str) -> dict[int, ServedModel]:
        """Return the served versions of a model by version number, in ascending order.

        Raises:
            UnknownModelError: no such model.
        """
        if name not in self._sources:
            raise UnknownModelError(f"no model {name[:200]!r}; the server has: {', '.join(self._sources)}")
        return dict(sorted(self._served[name].items()))

    def failures(self, name: str) -> dict[int, str]:
        """Return the error messages of a model's versions that failed to load, by version number."""
        return {number: failure.reason for (model, number), failure in self._failed.items() if model == name}

    def get(self, name: str, version: str = "") -> ServedModel:
        """Return a served version of a model.

        Args:
            name: model name.
            version: version number as text; empty for the highest served version.

        Raises:
            UnknownModelError: no such model or version.
            UnavailableError: the model has no served version.
        """
        served = self.versions(name)
        if not served:
            attempts = [failure.retry_at for (model, _), failure in self._failed.items() if model == name]
            raise UnavailableError(
                f"the model {name} is not loaded",
                hint="see the server's log for the reason",
                retry_after=max(0.0, min(attempts) - time.monotonic()) if attempts else None,
            )
        if not version:
            return served[max(served)]
        for number, model in served.items():
            if str(number) == version:
                return model
        raise UnknownModelError(
            f"the model {name} has no version {version[:20]!r}; it has: {', '.join(map(str, served))}"
        )

    async def refresh(self, name: str | None = None, *, force: bool = False) -> None:
        """Check the model folders and their keys, load new versions, and retire replaced ones. Failures are logged.

        Args:
            name: model to check; None for all models.
            force: whether to reload versions that have not changed, and retry failed ones without waiting.

        Raises:
            UnknownModelError: no such model.
        """
        if name is not None:
            self.versions(name)
        async with self._refresh_lock:
            for source in self._sources.values() if name is None else (self._sources[name],):
                await self._refresh(source, force)

    async def close(self) -> None:
        """Answer the accepted requests, and close all models."""
        async with self._refresh_lock:
            models = [model for served in self._served.values() for model in served.values()]
            await asyncio.gather(*(model.close() for model in models), *self._retiring)

    async def _refresh(self, source: ModelSource, force: bool) -> None:
        try:
            found = await asyncio.to_thread(find_versions, source.folder)
        except OSError as error:
            self._record_unreadable(source, error)
            return
        served = self._served[source.name]
        wanted = sorted(found)[-self._settings.versions :]
        for number in wanted:
            if force or self._is_due(source.name, found[number]):
                await self._load(source.name, found[number])
        self._failed = {
            key: failure
            for key, failure in self._failed.items()
            if key[0] != source.name or (key[1] in found and failure.digest)
        }
        if wanted and all(number in served for number in wanted):
            for number in [number for number in served if number not in wanted]:
                self._retire(served.pop(number), "replaced by another version")
        for model in list(served.values()):
            await self._refresh_keys(model, force)
        if served:
            self._metrics.set_version(source.name, max(served))

    async def _refresh_keys(self, model: ServedModel, force: bool) -> None:
        try:
            await model.keys.refresh(force=force)
        except (LcveError, OSError) as error:
            _LOG.error("keys not read; those known stay in use", extra={"model": model.name, "error": str(error)})

    def _is_due(self, name: str, version: FolderVersion) -> bool:
        served = self._served[name].get(version.number)
        if served and served.folder_version.digest == version.digest:
            return False
        failure = self._failed.get((name, version.number))
        return failure is None or failure.digest != version.digest or time.monotonic() >= failure.retry_at

    async def _load(self, name: str, version: FolderVersion) -> None:
        started = time.monotonic()
        try:
            loaded = await asyncio.to_thread(load_model, version.folder, self._settings.session)
            with version_boundary(version.folder):
                model = ServedModel(
                    name,
                    dataclasses.replace(version, digest=loaded.digest),
                    loaded,
                    batching=self._settings.batching,
                    threads=self._threads,
                    metrics=self._metrics,
                )
        except (LcveError, OSError) as error:
            self._record_failure(name, version, error)
            return
        replaced = self._served[name].get(version.number)
        await self._check_first_keys(model, replaced or self._served[name].get(max(self._served[name], default=0)))
        self._served[name][version.number] = model
        self._failed.pop((name, version.number), None)
        self._metrics.record_load(name, ok=True)
        seconds = round(time.monotonic() - started, 3)
        _LOG.info("model loaded", extra={"model": name, "version": version.number, "seconds": seconds})
        if replaced:
            self._retire(replaced, "its folder changed")

    async def _check_first_keys(self, model: ServedModel, previous: ServedModel | None) -> None:
        """Check keys before a model is served: those in use until now, so that their clients notice nothing, or a few.

        All others are checked in the background.
        """
        if previous is not None and model.shares_engine(previous):
            model.keys.inherit(previous.keys)
        await self._refresh_keys(model, force=False)
        await model.keys.settle(() if previous is None else previous.keys.hot)

    def _key_counts(self, name: str) -> dict[str, int]:
        return {
            state: sum(model.keys.counts()[state] for model in self._served[name].values())
            for state in ("ready", "checking", "failed", "hot")
        }

    def _record_unreadable(self, source: ModelSource, error: OSError) -> None:
        """Record that the folder of a model cannot be read: a failure of every version that it may have."""
        folder = FolderVersion(number=max(self._served[source.name], default=1), folder=source.folder, digest="")
        previous = self._failed.get((source.name, folder.number))
        if previous is None or previous.digest or time.monotonic() >= previous.retry_at:
            self._record_failure(source.name, folder, error)

    def _record_failure(self, name: str, version: FolderVersion, error: Exception) -> None:
        """Record and log a failure. Unchanged content is retried with exponential backoff."""
        previous = self._failed.get((name, version.number))
        backoff = (
            min(previous.backoff * 2, _MAX_BACKOFF) if previous and previous.digest == version.digest else _MIN_BACKOFF
        )
        failure = Failure(
            digest=version.digest, reason=str(error), backoff=backoff, retry_at=time.monotonic() + backoff
        )
        self._failed[name, version.number] = failure
        self._metrics.record_load(name, ok=False)
        fields = {"model": name, "version": version.number, "error": str(error), "still_served": [*self._served[name]]}
        _LOG.error("model not loaded", extra=fields)

    def _retire(self, model: ServedModel, reason: str) -> None:
        _LOG.info("model retired", extra={"model": model.name, "version": model.version, "reason": reason})
        task = asyncio.create_task(model.close())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)
