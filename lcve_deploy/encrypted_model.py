"""Run encrypted clips on a model, on this machine or on a server."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import EncryptedClip
from lcve_deploy.progress import Progress, silent

__all__ = ["EncryptedModel", "run_each", "run_views"]

Logits = npt.NDArray[np.float32]

_STAGE: Final = "running the views"


class EncryptedModel(Protocol):
    """A model that takes encrypted clips: a local or a remote session. Thread-safe."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Run encrypted clips ``[clips, ...]``, at least one.

        Returns:
            float32 ``[clips, classes]``, in the artifact's own label order.

        Raises:
            LcveError: the model failed.
        """


def run_each(model: EncryptedModel, clips: Iterable[EncryptedClip], *, in_flight: int = 1) -> Iterator[Logits]:
    """Run many clips, and yield their logits in order.

    Args:
        model: model to run.
        clips: clips; consumed at most ``in_flight`` ahead of the logits.
        in_flight: number of concurrent calls, at least 1; more than one use threads.

    Raises:
        LcveError: a call failed; current calls are completed, and no more are started.
    """
    if in_flight == 1:
        yield from map(model.run, clips)
        return
    waiting: deque[Future[Logits]] = deque()
    with ThreadPoolExecutor(max_workers=in_flight, thread_name_prefix="lcve-run") as threads:
        try:
            for clip in clips:
                waiting.append(threads.submit(model.run, clip))
                if len(waiting) >= in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def run_views(model: EncryptedModel, clip: EncryptedClip, *, in_flight: int = 1, progress: Progress = silent) -> Logits:
    """Run the views of a video, one view per call: all views of a large model at once could exhaust the memory.

    Args:
        model: model to run.
        clip: encrypted views, values ``[views, ...]``, at least one.
        in_flight: number of concurrent calls.
        progress: receives every view, if there are several.

    Returns:
        float32 ``[views, classes]``, in the artifact's own label order.

    Raises:
        ValueError: there is no view.
        LcveError: the model failed.
    """
    views, logits = len(clip.values), []
    if not views:
        raise ValueError("expected at least one clip, received none")
    report = progress if views > 1 else silent
    report(_STAGE, 0, views)
    for row in run_each(model, _single_views(clip), in_flight=in_flight):
        logits.append(row)
        report(_STAGE, len(logits), views)
    return np.concatenate(logits)


def _single_views(clip: EncryptedClip) -> Iterator[EncryptedClip]:
    for view in range(len(clip.values)):
        yield EncryptedClip(values=clip.values[view : view + 1], binding=clip.binding)
