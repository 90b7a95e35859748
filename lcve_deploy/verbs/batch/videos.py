"""Which videos a batch has: files, folders and lists to rows, each video once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import read_bounded

__all__ = ["MAX_LIST_BYTES", "Video", "find_videos"]

MAX_LIST_BYTES: Final = 2**28
"""Bytes of a list of videos: those of some million paths."""

_SUFFIXES: Final = frozenset(
    (
        *(".3gp", ".asf", ".avi", ".flv", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".ts", ".webm", ".wmv"),
    )
)
_CLIP: Final = ".lcve"
_MAX_STEM: Final = 200
"""Bytes of a clip's name that are of the video's: file systems take 255, with what is put around it."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """A row of the batch.

    Args:
        row: its place, from 0.
        given: its path as it was given or found.
        path: the same, absolute.
        clip: file name of its encrypted clip; no other row has it, upper and lower case taken as one.
    """

    row: int
    given: str
    path: str
    clip: str


def find_videos(names: Sequence[str]) -> tuple[Video, ...]:
    """All videos in the order in which they were given; one that is named again counts once.

    Args:
        names: each a file; a folder, searched to its depths for video files, by name; or ``@LIST``, a text file
            with one path a line, each taken as it is: a video, a folder of frames or a ``.npy``.

    Raises:
        VideoError: no video at all, a folder without one, or a list that is no file or too large.
        FileNotFoundError: there is no such list.
    """
    paths: dict[str, str] = {}
    for given in _named(names):
        paths.setdefault(os.path.abspath(given), given)  # noqa: PTH100 (keeps links)
    if not paths:
        raise VideoError("expected at least one video, received none", hint="name files, folders or @LIST")
    clips = _clip_names(paths)
    return tuple(
        Video(row=row, given=given, path=path, clip=clip)
        for row, ((path, given), clip) in enumerate(zip(paths.items(), clips, strict=True))
    )


def _named(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        if name.startswith("@"):
            lines = read_bounded(name[1:], "a list of videos", VideoError, max_bytes=MAX_LIST_BYTES).splitlines()
            yield from (os.fsdecode(line) for line in lines if line.strip())
        elif os.path.isdir(name):  # noqa: PTH112 (a name that is too long is no folder)
            yield from _inside(Path(name))
        else:
            yield name


def _inside(folder: Path) -> list[str]:
    found = sorted(str(path) for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not found:
        raise VideoError(
            f"the folder {folder} has no video files",
            hint="a folder of frames is one video: name it in a list, and pass @LIST",
        )
    return found


def _clip_names(paths: Iterable[str]) -> list[str]:
    """Names after those of the videos; where one is taken, with a number."""
    taken, names = set[str](), []
    for path in paths:
        stem, number = os.fsdecode(os.fsencode(Path(path).stem)[:_MAX_STEM]), 1
        name = f"{stem}{_CLIP}"
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}{_CLIP}"
        taken.add(name.casefold())
        names.append(name)
    return names
