"""Clips of the model's geometry from whatever a user has."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lcve_deploy.clips import PlainClip, Views
from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import map_array, require_file
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.video.decode import MAX_FRAME_PIXELS, Frames, VideoWarning
from lcve_deploy.video.files import VideoFile
from lcve_deploy.video.pictures import Pictures, is_picture, pictures_of
from lcve_deploy.video.sampling import crop_offsets, frame_indices

__all__ = ["VideoClips", "read_clips", "stack_clips"]


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoClips:
    """Clips of one video.

    Args:
        clip: uint8 RGB ``[views, T, H, W, C]``; view index = temporal · S + spatial.
        views: how they sample the video.
        notes: what must be said of the video, such as that it was too short and frames were repeated.
    """

    clip: PlainClip
    views: Views
    notes: tuple[str, ...] = ()


def read_clips(path: Path, preprocess: Preprocess, geometry: ClipGeometry, views: Views | None = None) -> VideoClips:
    """Read a video file, a folder of frames, a picture, or an array. Every note is a ``VideoWarning`` too.

    Args:
        path: video, picture, folder of pictures, or ``.npy``: uint8 ``[T, H, W, 3]`` of exactly the model's
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
    values, notes = _sample(_opened(path), path, preprocess, views)
    for note in notes:
        warnings.warn(f"{path}: {note}", VideoWarning, stacklevel=2)
    return VideoClips(clip=PlainClip(values=values), views=views, notes=notes)


def _opened(path: Path) -> Frames:
    if path.is_dir():
        return pictures_of(path)
    if require_file(path, "a video", VideoError) and is_picture(path):
        return Pictures([path])
    return VideoFile(path)


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


def _sample(
    source: Frames, path: Path, preprocess: Preprocess, views: Views
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Clips and notes. A source may find out once that it has another number of frames than it seemed."""
    for _ in range(2):
        total = source.count()
        if not total:
            break
        plan = frame_indices(total, preprocess, views.temporal)
        frames = source.take({index for view in plan for index in view}, preprocess)
        if frames is not None:
            return stack_clips(frames, plan, preprocess, views), (*source.notes, *_repeats(total, plan, preprocess))
    raise VideoError(
        f"no frame of {path} can be decoded: damaged, or another kind of file, or frames of more than "
        f"{MAX_FRAME_PIXELS} pixels"
    )


def _repeats(total: int, plan: list[list[int]], preprocess: Preprocess) -> list[str]:
    """The note on a video that is too short for a clip."""
    if all(len(set(view)) == len(view) for view in plan):
        return []
    stride = "" if preprocess.sampling is Sampling.UNIFORM else f" with stride {preprocess.stride}"
    frames = f"{total} frame" if total == 1 else f"{total} frames"
    return [f"the video has {frames}, too few for a clip of {preprocess.frames}{stride}: frames were repeated"]


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
        VideoError: frames of different sizes, or smaller than the crop.
    """
    if len({frame.shape for frame in frames.values()}) > 1:
        raise VideoError("the frames of the video have different sizes", hint="resize them first")
    height, width = preprocess.crop
    clips = []
    for indices in plan:
        rows, columns = frames[indices[0]].shape[:2]
        if rows < height or columns < width:
            raise VideoError(
                f"the model takes clips of {height} x {width} (height x width) from frames that are not resized, but "
                f"these have {rows} x {columns}"
            )
        for top, left in crop_offsets(rows, columns, preprocess.crop, views.spatial, preprocess.crop_rounding):
            clips.append(np.stack([frames[i][top : top + height, left : left + width] for i in indices]))
    return np.stack(clips)
