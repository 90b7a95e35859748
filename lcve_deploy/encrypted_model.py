"""A model that answers encrypted clips, wherever it runs: an engine on this machine, or a server."""

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
    """What answers encrypted clips: a session on this machine, or one with a server. Threads may share it."""

    def run(self, clip: EncryptedClip) -> Logits:
        """Logits of encrypted clips ``[clips, ...]``, at least one, in the artifact's own label order.

        Returns:
            float32 ``[clips, classes]``.

        Raises:
            LcveError: there is no answer.
        """


def run_each(model: EncryptedModel, clips: Iterable[EncryptedClip], *, in_flight: int = 1) -> Iterator[Logits]:
    """Logits of each of many clips, in their order.

    Args:
        model: answers them.
        clips: taken one by one, never more than ``in_flight`` ahead of the logits.
        in_flight: calls at once, at least 1; each but a single one is in a thread of its own.

    Raises:
        LcveError: as of the model; calls under way are waited for, and no more are made.
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
    """Logits ``[views, classes]`` of the views of a video, one view at a time.

    Many views of a large model at once would fill the memory.

    Args:
        model: answers them.
        clip: values ``[views, ...]``, at least one.
        in_flight: views at once.
        progress: told of every view, if there are several.

    Raises:
        ValueError: no view.
        LcveError: as of the model.
    """
    views, logits = len(clip.values), []
    if not views:
        raise ValueError("expected at least one clip, received none")
    told = progress if views > 1 else silent
    told(_STAGE, 0, views)
    for answer in run_each(model, _single_views(clip), in_flight=in_flight):
        logits.append(answer)
        told(_STAGE, len(logits), views)
    return np.concatenate(logits)


def _single_views(clip: EncryptedClip) -> Iterator[EncryptedClip]:
    for view in range(len(clip.values)):
        yield EncryptedClip(values=clip.values[view : view + 1], binding=clip.binding)
