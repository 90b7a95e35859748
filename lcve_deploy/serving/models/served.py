"""A served model version: its engine, keys, queue, statistics, metadata and configuration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, Final

from lcve_deploy.artifact import EngineKind
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import (
    ArtifactError,
    DeadlineError,
    MismatchError,
    SessionError,
    SignatureError,
    UnavailableError,
)
from lcve_deploy.protocol.config import ONNX, PLAN, Scheduling, model_config
from lcve_deploy.serving.models.batching import Answer, Batcher, BatchResult, Run
from lcve_deploy.serving.models.keys import ServedKeys
from lcve_deploy.serving.models.loading import LoadedModel
from lcve_deploy.serving.models.statistics import Statistics
from lcve_deploy.serving.models.versions import FolderVersion
from lcve_deploy.serving.settings import Batching
from lcve_deploy.serving.telemetry.metrics import Metrics

__all__ = ["ServedModel", "Threads"]

_KEY_FAULTS: Final = (ArtifactError, SignatureError, MismatchError, UnavailableError, OSError)
"""What loading a key raises; it concerns the requests under this key alone."""

_PLATFORMS: Final = {
    EngineKind.ONNXRUNTIME: ONNX,
    EngineKind.OPENVINO: "openvino",
    EngineKind.TENSORRT: PLAN,
    EngineKind.TENSORRT_RTX: PLAN,
}
"""Platform that metadata and configuration report; Triton's name if Triton has one."""


@dataclass(frozen=True, kw_only=True)
class Threads:
    """Executors that run engines, and that read the files of keys."""

    engines: Executor
    readers: Executor


class ServedModel:
    """A served model version. Create, use and close it on one event loop.

    Args:
        name: model name.
        folder_version: version and folder that the session was opened from.
        loaded: session that has passed the probe.
        batching: batch size, delay, queue length and instances.
        threads: executors.
        metrics: metrics, updated with every run and request.
    """

    def __init__(
        self,
        name: str,
        folder_version: FolderVersion,
        loaded: LoadedModel,
        *,
        batching: Batching,
        threads: Threads,
        metrics: Metrics,
    ) -> None:
        session = loaded.session
        if session.folders is None:
            raise SessionError(f"the model {name} was opened without its key folders")
        self.name, self.folder_version, self._metrics = name, folder_version, metrics
        self.spec, self.statistics, engine = session.model, Statistics(), session.engine
        self.platform = _PLATFORMS[engine.kind] if engine else ONNX
        max_batch = engine.profile.maximum if engine and engine.profile else batching.max_batch
        self.max_batch, self._session = min(batching.max_batch, max_batch), session
        self._batcher = Batcher(
            self._run, replace(batching, max_batch=self.max_batch), threads.engines, self._record_run
        )
        self._key_metrics = metrics.of_keys(name)
        self.keys = ServedKeys(
            name,
            session.folders,
            session.bank,
            prove=loaded.prove_key,
            in_background=self._batcher.run_in_background,
            readers=threads.readers,
            metrics=self._key_metrics,
        )
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

    def shares_engine(self, other: ServedModel) -> bool:
        """Whether another version of the model runs the same engine of the same model."""
        ours, theirs = self._session, other._session
        same_model = self.folder_version.digest == other.folder_version.digest
        return same_model and (ours.engine, ours.device) == (theirs.engine, theirs.device)

    async def answer(self, clip: EncryptedClip, timeout: float | None) -> BatchResult:
        """Run the clips of one request, and count the request whether it succeeds or fails.

        Args:
            clip: uint8 values ``[clips, ...]``, 1 to ``max_batch`` clips, of a key that ``ServedKeys`` accepts.
            timeout: seconds until the request fails; None for no limit.

        Raises:
            UnknownKeyError: the key is gone, or its files cannot be used.
            UnavailableError, DeadlineError, LcveError: see ``Batcher.submit``.
        """
        started, answered = time.monotonic(), False
        try:
            result = await self._answer(clip, timeout)
            answered = True
        finally:
            seconds = time.monotonic() - started
            if not answered:
                self.statistics.record_failure(seconds)
        self.statistics.record_success(result, seconds)
        self._metrics.record_inference(self.name, self.version, result)
        self._key_metrics.record_clips(self.keys.name_of(clip.binding.key), len(result.logits))
        return result

    async def _answer(self, clip: EncryptedClip, timeout: float | None) -> BatchResult:
        key, started = clip.binding.key, time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                await self.keys.warm(key)
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
            return await self._batcher.submit(clip, timeout=left)
        except (UnavailableError, DeadlineError):
            raise
        except TimeoutError:
            raise DeadlineError(f"the request timed out after {timeout} s") from None
        except _KEY_FAULTS as error:
            raise self.keys.refusal(key, error) from None

    async def close(self) -> None:
        """Answer the accepted requests, and close the queue."""
        await self.keys.close()
        await self._batcher.close()

    def record_packed(self, clips: int, size: int) -> None:
        """Count the bytes of packed clips that were unpacked, and what the clips would be as they are."""
        geometry = self.spec.geometry
        self._metrics.record_packed(self.name, self.version, size, clips * geometry.cubes * geometry.values)

    def metadata(self, versions: list[str]) -> dict[str, Any]:
        """Return the fields of ``ModelMetadataResponse``.

        Args:
            versions: served versions of the model, as text.
        """
        datatypes = {"uint8": "UINT8", "float32": "FP32"}
        tensors = {
            kind: [{"name": spec.name, "datatype": datatypes[spec.dtype], "shape": [size or -1 for size in spec.shape]}]
            for kind, spec in (("inputs", self.spec.request_input), ("outputs", self.spec.output))
        }
        return {"name": self.name, "versions": versions, "platform": self.platform, **tensors}

    def _run(self, clips: Sequence[EncryptedClip]) -> Sequence[Answer]:
        """Run the clips of several requests together; if one key cannot be used, those of each key by themselves."""
        try:
            return self._run_together(clips)
        except _KEY_FAULTS as error:
            keys = list(dict.fromkeys(clip.binding.key for clip in clips))
            if len(keys) == 1:
                return [error] * len(clips)
        by_key = {key: iter(self._run([clip for clip in clips if clip.binding.key == key])) for key in keys}
        return [next(by_key[clip.binding.key]) for clip in clips]

    def _run_together(self, clips: Sequence[EncryptedClip]) -> Sequence[Answer]:
        logits = self._session.run_batch(clips)
        ends = accumulate((len(clip.values) for clip in clips), initial=0)
        return [logits[first:last] for first, last in pairwise(ends)]

    def _record_run(self, run: Run) -> None:
        self.statistics.record_run(run)
        self._metrics.record_run(self.name, self.version, run)
