"""A model version that is being served: its engine behind a queue, and what is said of it."""

from __future__ import annotations

import time
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.artifact import EngineKind
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.protocol.config import ONNX, PLAN, Scheduling, model_config
from lcve_deploy.runtime import Session
from lcve_deploy.serving.models.batching import Batcher, BatchResult, Run
from lcve_deploy.serving.models.statistics import Statistics
from lcve_deploy.serving.models.versions import FolderVersion
from lcve_deploy.serving.settings import Batching
from lcve_deploy.serving.telemetry.metrics import Metrics

__all__ = ["ServedModel"]

_PLATFORMS: Final = {
    EngineKind.ONNXRUNTIME: ONNX,
    EngineKind.OPENVINO: "openvino",
    EngineKind.TENSORRT: PLAN,
    EngineKind.TENSORRT_RTX: PLAN,
}
"""What runs an engine, in the words of Triton where it has some."""


class ServedModel:
    """Made, used and closed on one event loop.

    Args:
        name: of the model.
        place: where it was loaded from.
        session: the engine, which has answered the probe.
        batching: sizes, delay and instances.
        threads: where the engine runs.
        metrics: told of every run.
    """

    def __init__(
        self,
        name: str,
        place: FolderVersion,
        session: Session,
        *,
        batching: Batching,
        threads: Executor,
        metrics: Metrics,
    ) -> None:
        self.name, self.place, self._metrics = name, place, metrics
        self.spec, self.statistics, engine = session.model, Statistics(), session.engine
        self.platform = _PLATFORMS[engine.kind] if engine else ONNX
        largest = engine.profile.maximum if engine and engine.profile else batching.largest
        self.largest, self._session = min(batching.largest, largest), session
        self._batcher = Batcher(self._run, replace(batching, largest=self.largest), threads, self._ran)
        scheduling = Scheduling(max_batch=self.largest, queue_delay=batching.delay)
        self.config = model_config(self.spec, scheduling, name=name, platform=self.platform)

    @property
    def version(self) -> str:
        """As the protocol writes it."""
        return str(self.place.number)

    @property
    def waiting(self) -> int:
        """Clips in the queue."""
        return self._batcher.waiting

    async def answer(self, values: npt.NDArray[np.uint8], timeout: float | None) -> BatchResult:
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
            for kind, spec in (("inputs", self.spec.input), ("outputs", self.spec.output))
        }
        return {"name": self.name, "versions": versions, "platform": self.platform, **tensors}

    def _run(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self._session.run(EncryptedClip(values=values, binding=self.spec.binding))

    def _ran(self, run: Run) -> None:
        self.statistics.ran(run)
        self._metrics.ran(self.name, self.version, run)
