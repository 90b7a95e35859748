"""Moving digits with two labels: the motion is the action, the digit is the private identity.

Clips, actions and the split by digit images are those of ``examples/moving_digits/``; a digit image of the held-out
clips was never seen in training. Clips are kept as cubes: what a transformer of this paper takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from examples.moving_digits.data import digit_images, digit_labels, make_clips
from lcve_deploy.geometry import ClipGeometry
from paper.experiments.records import Task
from paper.methods.encryption import Clips

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CLASSES",
    "GEOMETRY",
    "HELD_OUT_CLIPS",
    "TRAINING_CLIPS",
    "Dataset",
    "held_out",
    "training",
]

GEOMETRY: Final = ClipGeometry(frames=16, height=64, width=64, cube=(2, 16, 16))
"""Small clips in cubes of the paper's own size: N = 128, L = 1536."""
CLASSES: Final = {Task.ACTION: 8, Task.IDENTITY: 10}
TRAINING_CLIPS: Final = 4096
HELD_OUT_CLIPS: Final = 400
_HELD_OUT_SEED: Final = 1
_PART: Final = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Clips and what they show.

    Args:
        clips: ``[clips, T, H, W, C]``, uint8.
        labels: of each task, int64 ``[clips]``.
    """

    clips: Clips
    labels: dict[Task, npt.NDArray[np.int64]]

    def cubes(self, change: Callable[[Clips], Clips], *, clips: int | None = None) -> Tensor:
        """The first ``clips`` clips, or all, once a method has changed them: cubes ``[clips, N, L]``, uint8."""
        import torch

        plain = self.clips[:clips]
        cubes = torch.empty((len(plain), GEOMETRY.cubes, GEOMETRY.values), dtype=torch.uint8)
        for start in range(0, len(plain), _PART):
            part = change(plain[start : start + _PART])
            cubes[start : start + _PART] = torch.from_numpy(GEOMETRY.to_cubes(part, np))
        return cubes


def training(seed: int) -> Dataset:
    """The clips that a seed trains on."""
    return _drawn(TRAINING_CLIPS, held_out=False, seed=1000 + seed)


def held_out(clips: int | None = None) -> Dataset:
    """The clips that every row is tested on; every action is shown by as many. Another number draws other clips."""
    return _drawn(clips or HELD_OUT_CLIPS, held_out=True, seed=_HELD_OUT_SEED)


def _drawn(count: int, *, held_out: bool, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    images, digits = digit_images(held_out=held_out), digit_labels(held_out=held_out)
    actions, parts = np.arange(count) % CLASSES[Task.ACTION], []
    for start in range(0, count, _PART):  # a clip is drawn in float64: not all of them at once
        parts.append(make_clips(images, actions[start : start + _PART], rng))
    clips, chosen = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Dataset(clips=clips, labels={Task.ACTION: actions, Task.IDENTITY: digits[chosen]})
