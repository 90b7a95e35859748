"""Read clips of a model's geometry from videos, pictures and arrays."""

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
    """Clips of one video, one for each view.

    Args:
        clip: uint8 RGB ``[views, T, H, W, C]``; view index = temporal index · number of spatial views + spatial index.
        views: numbers of temporal and spatial views.
        notes: remarks on the video, for example that it was too short and frames were repeated.
    """

    clip: PlainClip
    views: Views
    notes: tuple[str, ...] = ()


def read_clips(path: Path, preprocess: Preprocess, geometry: ClipGeometry, views: Views | None = None) -> VideoClips:
    """Read clips of a video file, a folder of frames, a picture, or an array. Notes are also issued as warnings.

    Args:
        path: video, picture, folder of pictures, or ``.npy`` array: uint8 ``[T, H, W, 3]`` of the model's geometry,
            which is not sampled or resized; for a model of one frame, also ``[H, W, 3]``.
        preprocess: sampling, resizing and cropping of the model.
        geometry: geometry of the model.
        views: temporal and spatial views; by default one, of the centre.

    Raises:
        VideoError: the path does not exist, is not a video, or is an array of another shape or dtype.

    Warns:
        VideoWarning: for every note.
    """
    views = views or Views()
    if not path.exists():
        raise VideoError(f"there is no video at {path}")
    if path.suffix.lower() == ".npy" and path.is_file():
        return VideoClips(clip=PlainClip(values=_read_array(path, geometry, views)[None]), views=views)
    values, notes = _sample(_open(path), path, preprocess, views)
    for note in notes:
        warnings.warn(f"{path}: {note}", VideoWarning, stacklevel=2)
    return VideoClips(clip=PlainClip(values=values), views=views, notes=notes)


def _open(path: Path) -> Frames:
    if path.is_dir():
        return pictures_of(path)
    if require_file(path, "a video", VideoError) and is_picture(path):
        return Pictures([path])
    return VideoFile(path)


def _read_array(path: Path, geometry: ClipGeometry, views: Views) -> npt.NDArray[np.uint8]:
    if views.count != 1:
        raise VideoError(f"an array is a single view; {views} views need a video", hint="omit --views")
    array = map_array(path, "an array", VideoError)
    shapes = (geometry.clip_shape, *geometry.picture_shapes)
    if array.dtype != np.uint8 or array.shape not in shapes:
        expected = " or ".join(str(list(shape)) for shape in shapes)
        source = "picture" if geometry.picture_shapes else "video"
        raise VideoError(
            f"expected uint8 {expected} (frames, height, width, RGB), received {array.dtype} {list(array.shape)}: "
            f"{path}",
            hint=f"values must be 0..255 and not normalised; pass the {source} itself to have it resized",
        )
    return np.array(array).reshape(geometry.clip_shape)


def _sample(
    source: Frames, path: Path, preprocess: Preprocess, views: Views
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Return clips and notes. Try twice: a source may discover its real number of frames during the first attempt."""
    for _ in range(2):
        total = source.count()
        if not total:
            break
        plan = frame_indices(total, preprocess, views.temporal)
        frames = source.take({index for view in plan for index in view}, preprocess)
        if frames is not None:
            remarks = _single_note(total, plan, source) if preprocess.frames == 1 else ()
            repeats = _repeat_note(total, plan, preprocess)
            return stack_clips(frames, plan, preprocess, views), (*source.notes, *repeats, *remarks)
    raise VideoError(
        f"no frame of {path} can be decoded: it is damaged, not a video, or has frames of more than "
        f"{MAX_FRAME_PIXELS} pixels"
    )


def _repeat_note(total: int, plan: list[list[int]], preprocess: Preprocess) -> list[str]:
    """Return the note on a video that is too short for a clip, if it is."""
    if all(len(set(view)) == len(view) for view in plan):
        return []
    stride = "" if preprocess.sampling is Sampling.UNIFORM else f" with stride {preprocess.stride}"
    frames = f"{total} frame" if total == 1 else f"{total} frames"
    return [f"the video has {frames}, too few for a clip of {preprocess.frames}{stride}: frames were repeated"]


def _single_note(total: int, plan: list[list[int]], source: Frames) -> tuple[str, ...]:
    """Return the note on frames that a model of one frame does not see, or on views that are the same, if any."""
    views = len(plan)
    if total < views:
        return (f"it has {total} frame{'s' * (total > 1)} for {views} temporal views: some views are the same",)
    if total == views or not isinstance(source, Pictures):
        return ()
    seen = ", ".join(source.names({index for view in plan for index in view}))
    return (f"the folder has {total} pictures, and the model takes one at a time: only {seen} is used",)


def stack_clips(
    frames: dict[int, npt.NDArray[np.uint8]], plan: list[list[int]], preprocess: Preprocess, views: Views
) -> npt.NDArray[np.uint8]:
    """Crop resized frames and stack them to clips.

    Args:
        frames: frames (uint8 RGB, ``[H, W, 3]``) by index.
        plan: indices of the frames of every temporal view.
        preprocess: determines the crop.
        views: temporal and spatial views.

    Returns:
        uint8 ``[views, T, H, W, 3]``.

    Raises:
        VideoError: the frames have different sizes, or are smaller than the crop.
    """
    if len({frame.shape for frame in frames.values()}) > 1:
        raise VideoError("the frames of the video have different sizes", hint="make all frames the same size")
    height, width = preprocess.crop
    clips = []
    for indices in plan:
        rows, columns = frames[indices[0]].shape[:2]
        if rows < height or columns < width:
            raise VideoError(
                f"expected frames of at least {height} x {width} (height x width), which the model crops without "
                f"resizing, received {rows} x {columns}"
            )
        for top, left in crop_offsets(rows, columns, preprocess.crop, views.spatial, preprocess.crop_rounding):
            clips.append(np.stack([frames[i][top : top + height, left : left + width] for i in indices]))
    return np.stack(clips)
