"""A model version that is being served: its engine behind a queue, and what is said of it."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import Manifest
from lcve_deploy.protocol.config import model_config
from lcve_deploy.serving.models.batching import Batcher, Outcome, Run
from lcve_deploy.serving.models.loading import LoadedModel
from lcve_deploy.serving.models.statistics import Statistics
from lcve_deploy.serving.models.versions import FolderVersion
from lcve_deploy.serving.settings import Batching
from lcve_deploy.serving.telemetry.metrics import Metrics

__all__ = ["ServedModel"]


class ServedModel:
    """Made, used and closed on one event loop.

    Args:
        name: of the model.
        place: where it was loaded from.
        loaded: the engine.
        batching: sizes, delay and instances.
        threads: where the engine runs.
        metrics: told of every run.
    """

    def __init__(
        self,
        name: str,
        place: FolderVersion,
        loaded: LoadedModel,
        *,
        batching: Batching,
        threads: Executor,
        metrics: Metrics,
    ) -> None:
        self.name, self.place, self._metrics = name, place, metrics
        self.manifest: Manifest = loaded.manifest
        self.platform, self.statistics = loaded.platform, Statistics()
        self.largest = min(batching.largest, loaded.profile.maximum) if loaded.profile else batching.largest
        self._batcher = Batcher(loaded.run, replace(batching, largest=self.largest), threads, self._ran)
        self.config = model_config(
            loaded.manifest, name=name, platform=self.platform, largest_batch=self.largest, delay=batching.delay
        )

    @property
    def version(self) -> str:
        """As the protocol writes it."""
        return str(self.place.number)

    @property
    def waiting(self) -> int:
        """Clips in the queue."""
        return self._batcher.waiting

    async def answer(self, values: npt.NDArray[np.uint8], timeout: float | None) -> Outcome:
        """Logits of one request's clips; counted either way.

        Raises:
            UnavailableError, DeadlineError, LcveError: as of ``Batcher.submit``.
        """
        started, answered = time.monotonic(), False
        try:
            outcome = await self._batcher.submit(values, timeout=timeout)
            answered = True
        finally:
            seconds = time.monotonic() - started
            if not answered:
                self.statistics.failed(seconds)
        self.statistics.answered(outcome, seconds)
        self._metrics.answered(self.name, self.version, outcome)
        return outcome

    async def close(self) -> None:
        """Answer what was accepted, and end."""
        await self._batcher.close()

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """The fields of ``ModelMetadataResponse``."""
        datatypes = {"uint8": "UINT8", "float32": "FP32"}
        tensors = {
            kind: [{"name": spec.name, "datatype": datatypes[spec.dtype], "shape": [size or -1 for size in spec.shape]}]
            for kind, spec in (("inputs", self.manifest.input), ("outputs", self.manifest.output))
        }
        return {"name": self.name, "versions": versions, "platform": self.platform, **tensors}

    def _ran(self, run: Run) -> None:
        self.statistics.ran(run)
        self._metrics.ran(self.name, self.version, run)
