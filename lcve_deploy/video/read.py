"""Clips of the model's geometry from whatever a user has."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.errors import VideoError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.inputs import map_array
from lcve_deploy.preprocess import Preprocess
from lcve_deploy.video.decode import LARGEST_FRAME, Frames, ImageFolder, VideoFile, VideoWarning
from lcve_deploy.video.sampling import crop_offsets, frame_indices

__all__ = ["VideoClips", "read_clips", "stack_clips"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoClips:
    """Clips of one video.

    Args:
        clip: uint8 RGB ``[views, T, H, W, C]``; view index = temporal · S + spatial.
        views: how they sample the video.
    """

    clip: PlainClip
    views: Views


def read_clips(path: Path, preprocess: Preprocess, geometry: ClipGeometry, views: Views | None = None) -> VideoClips:
    """Read a video file, a folder of frames, or an array.

    Args:
        path: video, folder of images, or ``.npy``: uint8 ``[T, H, W, 3]`` of exactly the model's
            geometry, taken as it is.
        preprocess: sampling, resizing and cropping of the model.
        geometry: what the clips must have.
        views: temporal and spatial views; by default one, of the centre.

    Raises:
        VideoError: nothing there, not a video, or an array of another shape or dtype.
    """
    views = views or Views()
    if not path.exists():
        raise VideoError(f"there is no video at {path}")
    if path.suffix.lower() == ".npy" and path.is_file():
        return VideoClips(clip=PlainClip(values=_read_array(path, geometry, views)[None]), views=views)
    source = ImageFolder(path) if path.is_dir() else VideoFile(path)
    return VideoClips(clip=PlainClip(values=_sample(source, path, preprocess, views)), views=views)


def _read_array(path: Path, geometry: ClipGeometry, views: Views) -> npt.NDArray[np.uint8]:
    if views.count != 1:
        raise VideoError(f"an array is one view, taken as it is; {views} views need a video", hint="leave --views out")
    array = map_array(path, "an array", VideoError)
    if array.dtype != np.uint8 or array.shape != geometry.clip_shape:
        raise VideoError(
            f"expected uint8 {list(geometry.clip_shape)} (frames, height, width, RGB), received {array.dtype} "
            f"{list(array.shape)}: {path}",
            hint="values are 0..255 and not normalised; pass the video itself to have it sampled and resized",
        )
    return np.array(array)


def _sample(source: Frames, path: Path, preprocess: Preprocess, views: Views) -> npt.NDArray[np.uint8]:
    total = source.count()
    while total:
        plan = frame_indices(total, preprocess, views.temporal)
        frames, decoded = source.take({index for view in plan for index in view}, preprocess.short_side)
        if all(index in frames for view in plan for index in view):
            return stack_clips(frames, plan, preprocess, views)
        # The source ends before it says: plan with what there is.
        warnings.warn(f"{path} ends after {decoded} of {total} frames", VideoWarning, stacklevel=3)
        total = min(decoded, total - 1)
    raise VideoError(
        f"no frame of {path} can be decoded: damaged, or another kind of file, or frames of more than "
        f"{LARGEST_FRAME} pixels"
    )


def stack_clips(
    frames: dict[int, npt.NDArray[np.uint8]], plan: list[list[int]], preprocess: Preprocess, views: Views
) -> npt.NDArray[np.uint8]:
    """Clips of frames that have been resized, cropped as the model wants them.

    Args:
        frames: ``[H, W, 3]`` (uint8 RGB) by index.
        plan: indices of the frames of every temporal view.
        preprocess: with the crop.
        views: temporal and spatial views.

    Returns:
        uint8 ``[views, T, H, W, 3]``.

    Raises:
        VideoError: frames of different sizes.
    """
    if len({frame.shape for frame in frames.values()}) > 1:
        raise VideoError("the frames of the video have different sizes", hint="resize them first")
    height, width = preprocess.crop
    clips = []
    for indices in plan:
        rows, columns = frames[indices[0]].shape[:2]
        for top, left in crop_offsets(rows, columns, preprocess.crop, views.spatial):
            clips.append(np.stack([frames[i][top : top + height, left : left + width] for i in indices]))
    return np.stack(clips)
