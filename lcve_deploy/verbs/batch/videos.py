"""Resolve files, folders and lists to the videos of a batch, each video once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.video.pictures import SUFFIXES as _PICTURES

__all__ = ["MAX_LIST_BYTES", "Video", "find_videos"]

MAX_LIST_BYTES: Final = 2**28
"""Maximum bytes of a list of videos: enough for millions of paths."""

_SUFFIXES: Final = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
_CLIP: Final = ".lcve"
_MAX_STEM: Final = 200
"""Maximum bytes of a video's name in the name of its clip; with prefix and suffix, file systems allow 255."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A video of a batch.

    Args:
        row: row in the table, from 0.
        given: path as it was given or found.
        path: absolute path.
        clip: file name of its encrypted clip; unique in the batch, even on a file system that ignores case.
        camera: name of the key that it is encrypted with; empty if all videos have the same key.
    """

    row: int
    given: str
    path: str
    clip: str
    camera: str = ""


def find_videos(names: Sequence[str], *, pictures: bool = False) -> tuple[Video, ...]:
    """Find all videos, in the order given; repeated paths count once.

    Args:
        names: files; folders, searched recursively for files with the suffix of a video; or ``@LIST``, a text file
            with one path per line: a video, a picture, a folder of frames or an array (``.npy``).
        pictures: whether folders are also searched for pictures, each a clip of its own.

    Raises:
        VideoError: there is no video, a folder has none, or a list is too large or not a regular file.
        FileNotFoundError: a list does not exist.
    """
    paths: dict[str, str] = {}
    for given in _expand(names, pictures):
        paths.setdefault(os.path.abspath(given), given)  # noqa: PTH100 (does not resolve links)
    if not paths:
        raise VideoError("expected at least one video, received none", hint="pass files, folders or @LIST")
    clips = _clip_names(paths)
    return tuple(
        Video(row=row, given=given, path=path, clip=clip)
        for row, ((path, given), clip) in enumerate(zip(paths.items(), clips, strict=True))
    )


def _expand(names: Iterable[str], pictures: bool) -> Iterator[str]:
    for name in names:
        if name.startswith("@"):
            lines = read_bounded(name[1:], "a list of videos", VideoError, max_bytes=MAX_LIST_BYTES).splitlines()
            yield from (os.fsdecode(line) for line in lines if line.strip())
        elif os.path.isdir(name):  # noqa: PTH112 (returns False if the name is too long)
            yield from _videos_in(Path(name), pictures)
        else:
            yield name


def _videos_in(folder: Path, pictures: bool) -> list[str]:
    suffixes = _SUFFIXES | _PICTURES if pictures else _SUFFIXES
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not found:
        raise VideoError(
            f"the folder {folder} has no video files{' or pictures' * pictures}",
            hint="" if pictures else "if it is a folder of frames, write its path to a text file and pass @LIST",
        )
    return found


def _clip_names(paths: Iterable[str]) -> list[str]:
    """Return the name of each video's clip; repeated names get a number."""
    used, names = set[str](), []
    for path in paths:
        stem, number = os.fsdecode(os.fsencode(Path(path).stem)[:_MAX_STEM]), 1
        name = f"{stem}{_CLIP}"
        while name.casefold() in used:
            number += 1
            name = f"{stem}-{number}{_CLIP}"
        used.add(name.casefold())
        names.append(name)
    return names
