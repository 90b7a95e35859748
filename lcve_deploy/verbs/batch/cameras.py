"""Find the camera of each video of a batch: a folder above the video has its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lcve_deploy.errors import VideoError
from lcve_deploy.verbs.batch.videos import Video
from lcve_deploy.verbs.enroll import KEY_FILE

__all__ = ["assign_cameras"]

_SHOWN: Final = 5


def assign_cameras(videos: Sequence[Video], enrolled: Path) -> tuple[Video, ...]:
    """Return the videos with their cameras.

    Args:
        videos: videos of a batch.
        enrolled: folder with a folder for each camera, which has ``key.bin``. The camera of a video is the one that
            the nearest folder above the video is named after.

    Raises:
        VideoError: a video is in no folder with the name of a camera, or there are no cameras. The message lists some.
        OSError: ``enrolled`` cannot be read.
    """
    names = {folder.name for folder in enrolled.iterdir() if (folder / KEY_FILE).is_file()}
    if not names:
        raise VideoError(
            f"{enrolled} has no folder of a camera with {KEY_FILE}", hint="pass the output of lcve enroll --names"
        )
    found = tuple(dataclasses.replace(video, camera=_camera(Path(video.path), names)) for video in videos)
    if unknown := [video.given for video in found if not video.camera]:
        raise VideoError(
            f"{len(unknown)} videos are in no folder with the name of a camera, such as {', '.join(unknown[:_SHOWN])}",
            hint=f"put the videos of each camera into a folder with its name, as in {enrolled}",
        )
    return found


def _camera(path: Path, names: set[str]) -> str:
    return next((folder.name for folder in path.parents if folder.name in names), "")
