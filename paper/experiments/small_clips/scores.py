"""How far an estimate opens a clip, up to what a viewer sees at once: turned, mirrored, negated, colours exchanged."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from benchmarks.wire.codecs import psnr
from paper.methods.block_preserving import TURNS, BlockPreserving, turned
from paper.methods.encryption import Clips

__all__ = ["best_view", "neighbours_right"]

_WHITE = 255


def best_view(clip: Clips, opened: Clips) -> Clips:
    """Return the view of the opened clip ``[T, H, W, C]`` whose first frame is most like the plain one's."""
    views = zip(_views(opened[:1]), _views(opened), strict=True)
    return max(views, key=lambda view: psnr(clip[:1], view[0]))[1]


def neighbours_right(blocks: npt.NDArray[np.int64], truth: BlockPreserving) -> float:
    """Return the share of the pairs of neighbouring blocks that are neighbours in the plain clip as well, 0..1.

    A turned or mirrored layout is as good: all pairs of an axis must only agree with most of them.

    Args:
        blocks: which block of the encrypted clip is at each place, ``[rows, columns]``.
        truth: the encryption with its key.
    """
    rows, columns = blocks.shape
    at = np.stack(np.divmod(truth.blocks[blocks], truth.geometry.grid[2]))
    right = [_most_common(np.diff(at, axis=axis).reshape(2, -1)) for axis in (1, 2)]
    pairs = 2 * rows * columns - rows - columns
    return float(sum(right) / pairs)


def _most_common(steps: npt.NDArray[np.int64]) -> int:
    """Return how often the most common step to a neighbour occurs."""
    near = steps[:, np.abs(steps).sum(0) == 1]
    return int(np.unique(near, axis=1, return_counts=True)[1].max(initial=0))


def _views(clip: Clips) -> Iterator[Clips]:
    for number in range(TURNS):
        whole = turned(clip, number)
        for colours in itertools.permutations(range(clip.shape[-1])):
            view = whole[..., list(colours)]
            yield view
            yield _WHITE - view
