"""A served model version: its engine, queue, statistics, metadata and configuration."""

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
"""Platform that metadata and configuration report; Triton's name if Triton has one."""


class ServedModel:
    """A served model version. Create, use and close it on one event loop.

    Args:
        name: model name.
        folder_version: version and folder that the session was opened from.
        session: session that has passed the probe.
        batching: batch size, delay, queue length and instances.
        threads: executor that runs the engine.
        metrics: metrics, updated with every run and request.
    """

    def __init__(
        self,
        name: str,
        folder_version: FolderVersion,
        session: Session,
        *,
        batching: Batching,
        threads: Executor,
        metrics: Metrics,
    ) -> None:
        self.name, self.folder_version, self._metrics = name, folder_version, metrics
        self.spec, self.statistics, engine = session.model, Statistics(), session.engine
        self.platform = _PLATFORMS[engine.kind] if engine else ONNX
        max_batch = engine.profile.maximum if engine and engine.profile else batching.max_batch
        self.max_batch, self._session = min(batching.max_batch, max_batch), session
        self._batcher = Batcher(self._run, replace(batching, max_batch=self.max_batch), threads, self._record_run)
        scheduling = Scheduling(max_batch=self.max_batch, queue_delay=batching.delay)
        self.config = model_config(self.spec, scheduling, name=name, platform=self.platform)

    @property
    def version(self) -> str:
        """Version number as text, as the protocol reports it."""
        return str(self.folder_version.number)

    @property
    def waiting(self) -> int:
        """Number of clips in the queue."""
        return self._batcher.waiting

    @property
    def run_seconds(self) -> float | None:
        """Expected seconds until a running request is answered; None if no run was measured."""
        return self._batcher.run_seconds

    async def answer(self, values: npt.NDArray[np.uint8], timeout: float | None) -> BatchResult:
        """Run the clips of one request, and count the request whether it succeeds or fails.

        Args:
            values: uint8 ``[clips, ...]``, 1 to ``max_batch`` clips.
            timeout: seconds until the request fails; None for no limit.

        Raises:
            UnavailableError, DeadlineError, LcveError: see ``Batcher.submit``.
        """
        started, answered = time.monotonic(), False
        try:
            result = await self._batcher.submit(values, timeout=timeout)
            answered = True
        finally:
            seconds = time.monotonic() - started
            if not answered:
                self.statistics.record_failure(seconds)
        self.statistics.record_success(result, seconds)
        self._metrics.record_inference(self.name, self.version, result)
        return result

    async def close(self) -> None:
        """Answer the accepted requests, and close the queue."""
        await self._batcher.close()

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """Return the fields of ``ModelMetadataResponse``.

        Args:
            versions: served versions of the model, as text.
        """
        datatypes = {"uint8": "UINT8", "float32": "FP32"}
        tensors = {
            kind: [{"name": spec.name, "datatype": datatypes[spec.dtype], "shape": [size or -1 for size in spec.shape]}]
            for kind, spec in (("inputs", self.spec.input), ("outputs", self.spec.output))
        }
        return {"name": self.name, "versions": versions, "platform": self.platform, **tensors}

    def _run(self, values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        return self._session.run(EncryptedClip(values=values, binding=self.spec.binding))

    def _record_run(self, run: Run) -> None:
        self.statistics.record_run(run)
        self._metrics.record_run(self.name, self.version, run)
