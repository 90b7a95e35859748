"""Still pictures: one file, or a folder of them that are the frames of a video.

A picture is known by its first bytes, whatever its name says, and its whole file is handed to the decoder. FFmpeg's
own reader of picture files is not used: it takes ``%d``, ``*`` or ``{`` in a path for a pattern of several files.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import VideoError
from lcve_deploy.files.reading import read_bounded
from lcve_deploy.model.preprocess import Preprocess
from lcve_deploy.video.decode import (
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    OF_CODECS,
    STREAMS_OF_JPEG,
    Frame,
    load_av,
    pixel_note,
    require_one_size,
    resized,
)
from lcve_deploy.video.exif import chunks_of_png, chunks_of_webp, exif_orientation, has_jpeg_in_tiff, has_more_pages
from lcve_deploy.video.orientation import Orientation, from_exif

__all__ = ["MAX_PICTURE_BYTES", "Pictures", "is_picture", "pictures_of"]

MAX_PICTURE_BYTES: Final = 2**29
"""Bytes of a picture file: those of the largest frame, 8 bytes a pixel."""

_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
_DECODERS: Final = tuple(
    (re.compile(start, re.DOTALL), decoder)
    for start, decoder in (
        (rb"\x89PNG\r\n\x1a\n", "png"),
        (rb"\xff\xd8\xff\xf7", "jpegls"),
        (rb"\xff\xd8\xff", "mjpeg"),
        (rb"BM", "bmp"),
        (rb"RIFF....WEBP", "webp"),
        (rb"II\*\0|MM\0\*", "tiff"),
        (rb"P[1-6]\s", "ppm"),
    )
)
"""The decoder of what begins so; the first that fits counts."""
_STRICT: Final = {"mjpeg": {"err_detect": "explode"}}
"""Options of decoders that would otherwise fill in what is damaged or missing, and not say so."""
_START_BYTES: Final = 16
_MAX_SHOWN: Final = 4
"""Kinds of names in a note."""
_KINDS: Final = {"mjpeg": "JPEG"}
"""Names of formats, where they are not those of their decoders."""
_CONVERT: Final = "see that the file is whole; save it as an 8-bit PNG if it is"
_ANIMATION: Final = 0x02
"""A flag of WebP's VP8X chunk."""


class Pictures:
    """Pictures, one a frame. They are read when they are taken.

    Args:
        files: in order, at least one.

    Attributes:
        notes: what must be said of them, after frames have been taken.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self.notes: tuple[str, ...] = ()

    def count(self) -> int:
        """How many there are."""
        return len(self._files)

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame]:
        """Read the wanted pictures, upright and resized as ``preprocess`` says.

        Raises:
            VideoError: a file that cannot be read as a picture, or pictures of different sizes.
        """
        frames, notes = dict[int, Frame](), dict[str, None]()
        first: tuple[Path, tuple[int, int]] | None = None
        for index in sorted(wanted):
            path = self._files[index]
            data = read_bounded(path, "an image", VideoError, max_bytes=MAX_PICTURE_BYTES)
            decoded, turned, said = _decoded(path, data)
            size = turned.size(decoded.width, decoded.height)
            first = first or (path, size)
            require_one_size(first, (path, size))
            frames[index] = resized(decoded, preprocess, len(wanted), path, turned)
            notes.update(dict.fromkeys(said))
        self.notes = (*_series_note(self._files), *notes)
        return frames


def pictures_of(folder: Path) -> Pictures:
    """The pictures in a folder, in the order of their names; numbers count as numbers. Hidden files are no frames.

    Raises:
        VideoError: the folder has no images, or too many.
    """
    names = [file for file in folder.iterdir() if not file.name.startswith(".")]
    files = sorted((file for file in names if file.suffix.lower() in _SUFFIXES), key=_natural)
    if not files:
        raise VideoError(f"{folder} has no images ({', '.join(sorted(_SUFFIXES))})", hint=_instead(names))
    if len(files) > MAX_FRAMES:
        raise VideoError(f"{folder} has more than {MAX_FRAMES} images")
    return Pictures(files)


def _instead(names: Sequence[Path]) -> str:
    """The hint for a folder without images."""
    folders = sorted((name for name in names if name.is_dir()), key=_natural)
    if folders:
        return f"it holds other folders: give one of them, such as {folders[0]}"
    files = sorted(names, key=_natural)
    return f"it holds other files: give one of them, if it is a video, such as {files[0]}" if files else ""


def _series_note(files: Sequence[Path]) -> list[str]:
    """The note on images that seem to be more than the frames of one video, such as images and optical flow.

    Args:
        files: in the order in which they are taken.
    """
    series = Counter(re.sub(r"\d+", "#", file.name.lower()) for file in files)
    if len(series) == 1 or max(series.values()) == 1:
        return []
    shown = ", ".join(list(series)[:_MAX_SHOWN]) + (", ..." if len(series) > _MAX_SHOWN else "")
    return [f"the images of the folder have {len(series)} kinds of names ({shown}); all are used as frames"]


def is_picture(path: Path) -> bool:
    """Whether a file is one still picture; those that move are videos, but for WebP, which FFmpeg cannot play."""
    if path.suffix.lower() in STREAMS_OF_JPEG:
        return False
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    decoder = _decoder(start)
    if decoder != "png":
        return decoder is not None
    return not _moves(read_bounded(path, "an image", VideoError, max_bytes=MAX_PICTURE_BYTES))


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sort key under which frame2 comes before frame10; then by the name as it is."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)], path.name


def _decoder(start: bytes) -> str | None:
    return next((decoder for pattern, decoder in _DECODERS if pattern.match(start)), None)


def _decoded(path: Path, data: bytes) -> tuple[Any, Orientation, list[str]]:
    """A frame of PyAV, how it is turned upright, and what must be said of it."""
    av = load_av()
    name = _decoder(data[:_START_BYTES])
    if name is None:
        raise VideoError(f"{path} cannot be read as an image: it is empty, damaged, or another kind of file")
    if _moves(data):
        raise VideoError(
            f"{path} is animated, and cannot be read as one frame", hint="make a video or one picture a frame of it"
        )
    if has_jpeg_in_tiff(data):  # which FFmpeg decodes to wrong colours
        raise VideoError(f"{path} is a TIFF that is compressed as JPEG, which cannot be read", hint=_CONVERT)
    codec = av.CodecContext.create(name, "r")
    codec.options = {**OF_CODECS, **_STRICT.get(name, {})}
    packet = av.Packet(len(data))  # with the padding behind it that decoders need
    packet.update(data)
    try:
        frame = next(iter([*codec.decode(packet), *codec.decode(None)]), None)
    except av.error.FFmpegError:
        frame = None
    if frame is None:
        kind = _KINDS.get(name, name.upper())
        raise VideoError(
            f"{path} cannot be read as an image: damaged, cut off, of a kind of {kind} that FFmpeg does not read, or "
            f"with more than {MAX_FRAME_PIXELS} pixels",
            hint=_CONVERT,
        )
    notes = [*pixel_note(codec.sample_aspect_ratio)]
    if has_more_pages(data):
        notes.append("a picture has several pages; the first one was used")
    return frame, from_exif(exif_orientation(data)), notes


def _moves(data: bytes) -> bool:
    """Whether a PNG or WebP is animated."""
    if data.startswith(b"RIFF"):
        return any(
            name == b"VP8X" and bool(content[:1] and content[0] & _ANIMATION) for name, content in chunks_of_webp(data)
        )
    if not data.startswith(b"\x89PNG"):
        return False
    frames = (int.from_bytes(content[:4], "big") for name, content in chunks_of_png(data) if name == b"acTL")
    return next(frames, 1) > 1
