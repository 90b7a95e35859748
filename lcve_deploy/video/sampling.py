"""Choose the frames and the crops of the views of a video.

Source: the multi-view protocol of Kinetics-400 (paper, section 4.3: 5 temporal times 3 spatial views)
and the uniform sampling of Something-Something.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

from lcve_deploy.model.preprocess import Preprocess, Rounding, Sampling

__all__ = ["crop_offsets", "frame_indices"]

_HALF: Final = Fraction(1, 2)


def frame_indices(total: int, preprocess: Preprocess, views: int) -> list[list[int]]:
    """Return the frames of every temporal view. If the video is too short, its last frame is repeated.

    Args:
        total: number of frames of the video, at least 1.
        preprocess: frames per clip, stride, and kind of sampling.
        views: number of temporal views, at least 1.

    Returns:
        ``views`` lists of ``preprocess.frames`` indices in ``0..total-1``.
    """
    plan = _uniform if preprocess.sampling is Sampling.UNIFORM else _kinetics
    return [[min(index, total - 1) for index in plan(total, preprocess, view, views)] for view in range(views)]


def crop_offsets(
    height: int, width: int, crop: tuple[int, int], views: int, rounding: Rounding = Rounding.NEAREST
) -> list[tuple[int, int]]:
    """Return the top left corner of every spatial view: spread along the side with more slack, centred on the other.

    Args:
        height: height of the frame, pixels.
        width: width of the frame, pixels.
        crop: (height, width) of the crop, pixels.
        views: number of spatial views, at least 1.
        rounding: rounding of positions between two pixels.

    Returns:
        (row, column) for each view.
    """
    slack_rows, slack_columns = height - crop[0], width - crop[1]
    along_rows = slack_rows > slack_columns
    rounded = math.floor if rounding is Rounding.DOWN else round
    corners = []
    for view in range(views):
        share = _HALF if views == 1 else Fraction(view, views - 1)
        rows, columns = (share, _HALF) if along_rows else (_HALF, share)
        corners.append((rounded(slack_rows * rows), rounded(slack_columns * columns)))
    return corners


def _kinetics(total: int, preprocess: Preprocess, view: int, views: int) -> list[int]:
    """Return every stride-th frame of a window; windows are spread over the video, a single one is centred."""
    slack = max(total - ((preprocess.frames - 1) * preprocess.stride + 1), 0)
    start = slack // 2 if views == 1 else slack * view // (views - 1)
    return [start + i * preprocess.stride for i in range(preprocess.frames)]


def _uniform(total: int, preprocess: Preprocess, view: int, views: int) -> list[int]:
    """Return one frame from each of ``preprocess.frames`` equal parts of the video; views differ in the offset."""
    parts, share = 2 * views * preprocess.frames, 2 * view + 1
    return [(2 * views * i + share) * total // parts for i in range(preprocess.frames)]
