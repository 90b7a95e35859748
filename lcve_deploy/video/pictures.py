"""Read still pictures: one file, or a folder of files that are the frames of a video.

The format is detected from the first bytes, not from the name, and the content is passed to the decoder directly:
FFmpeg's reader of picture files would treat ``%d``, ``*`` or ``{`` in a path as a pattern for several files.
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
    CODEC_OPTIONS,
    MAX_FRAME_PIXELS,
    MAX_FRAMES,
    MJPEG_SUFFIXES,
    Frame,
    load_av,
    pixel_note,
    require_one_size,
    to_rgb,
)
from lcve_deploy.video.exif import exif_orientation, has_jpeg_in_tiff, has_more_pages, png_chunks, webp_chunks
from lcve_deploy.video.orientation import Orientation, from_exif

__all__ = ["MAX_PICTURE_BYTES", "SUFFIXES", "Pictures", "is_picture", "pictures_of"]

MAX_PICTURE_BYTES: Final = 2**29
"""Maximum bytes of a picture file: the largest frame with 8 bytes per pixel."""

SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
"""Suffixes of the pictures of a folder."""
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
"""Decoders by the first bytes of a file; the first match counts."""
_STRICT: Final = {"mjpeg": {"err_detect": "explode"}}
"""Options for decoders that would otherwise silently fill in damaged or missing parts."""
_SIGNATURE_BYTES: Final = 16
_MAX_PATTERNS: Final = 4
"""Maximum patterns of names in a note."""
_FORMAT_NAMES: Final = {"mjpeg": "JPEG"}
"""Names of formats that differ from the names of their decoders."""
_CONVERT: Final = "check that the file is complete; if it is, convert it to an 8-bit PNG"
_ANIMATION: Final = 0x02
"""Flag in WebP's VP8X chunk."""


class Pictures:
    """Picture files, each one a frame. Files are read by ``take``.

    Args:
        files: paths in order, at least one.

    Attributes:
        notes: remarks on the pictures; complete after ``take``.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = list(files)
        self.notes: tuple[str, ...] = ()

    def count(self) -> int:
        """Return the number of pictures."""
        return len(self._files)

    def names(self, indices: set[int]) -> list[str]:
        """Return the file names of pictures, in order."""
        return [self._files[index].name for index in sorted(indices)]

    def take(self, wanted: set[int], preprocess: Preprocess) -> dict[int, Frame]:
        """Read pictures, upright and resized according to ``preprocess``.

        Returns:
            Frames (uint8 RGB, ``[H, W, 3]``) by index.

        Raises:
            VideoError: a file cannot be read as a picture, or pictures have different sizes.
        """
        frames, notes = dict[int, Frame](), dict[str, None]()
        first: tuple[Path, tuple[int, int]] | None = None
        for index in sorted(wanted):
            path = self._files[index]
            data = read_bounded(path, "an image", VideoError, max_bytes=MAX_PICTURE_BYTES)
            decoded, orientation, remarks = _decode(path, data)
            size = orientation.size(decoded.width, decoded.height)
            first = first or (path, size)
            require_one_size(first, (path, size))
            frames[index] = to_rgb(decoded, preprocess, len(wanted), path, orientation)
            notes.update(dict.fromkeys(remarks))
        self.notes = (*_pattern_note(self._files), *notes)
        return frames


def pictures_of(folder: Path) -> Pictures:
    """Return the pictures in a folder, in natural order of their names (2 before 10), without hidden files.

    Raises:
        VideoError: the folder has no images, or too many.
    """
    entries = [file for file in folder.iterdir() if not file.name.startswith(".")]
    files = sorted((file for file in entries if file.suffix.lower() in SUFFIXES), key=_natural_order)
    if not files:
        raise VideoError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))})", hint=_folder_hint(entries))
    if len(files) > MAX_FRAMES:
        raise VideoError(f"{folder} has more than {MAX_FRAMES} images")
    return Pictures(files)


def _folder_hint(entries: Sequence[Path]) -> str:
    """Return the hint for a folder without images."""
    folders = sorted((entry for entry in entries if entry.is_dir()), key=_natural_order)
    if folders:
        return f"it contains other folders: pass one of them, such as {folders[0]}"
    files = sorted(entries, key=_natural_order)
    return f"it contains other files: if one is a video, pass it, such as {files[0]}" if files else ""


def _pattern_note(files: Sequence[Path]) -> list[str]:
    """Return the note on images that seem to be more than the frames of one video, such as images and optical flow.

    Args:
        files: paths in the order of the frames.
    """
    patterns = Counter(re.sub(r"\d+", "#", file.name.lower()) for file in files)
    if len(patterns) == 1 or max(patterns.values()) == 1:
        return []
    shown = ", ".join(list(patterns)[:_MAX_PATTERNS]) + (", ..." if len(patterns) > _MAX_PATTERNS else "")
    return [f"the names of the images have {len(patterns)} patterns ({shown}); all images are used as frames"]


def is_picture(path: Path) -> bool:
    """Return whether a file is a picture. An animated PNG is a video; FFmpeg cannot play an animated WebP."""
    if path.suffix.lower() in MJPEG_SUFFIXES:
        return False
    with path.open("rb") as file:
        start = file.read(_SIGNATURE_BYTES)
    decoder = _find_decoder(start)
    if decoder != "png":
        return decoder is not None
    return not _is_animated(read_bounded(path, "an image", VideoError, max_bytes=MAX_PICTURE_BYTES))


def _natural_order(path: Path) -> tuple[list[str | int], str]:
    """Return a sort key that puts frame2 before frame10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)], path.name


def _find_decoder(start: bytes) -> str | None:
    return next((decoder for pattern, decoder in _DECODERS if pattern.match(start)), None)


def _decode(path: Path, data: bytes) -> tuple[Any, Orientation, list[str]]:
    """Return a frame of PyAV, its orientation, and notes on it."""
    av = load_av()
    name = _find_decoder(data[:_SIGNATURE_BYTES])
    if name is None:
        raise VideoError(f"{path} cannot be read as an image: it is empty, damaged, or another kind of file")
    if _is_animated(data):
        raise VideoError(
            f"{path} is animated, and cannot be read as one frame", hint="convert it to a video or to single pictures"
        )
    if has_jpeg_in_tiff(data):  # FFmpeg would decode wrong colours
        raise VideoError(f"{path} is a TIFF with JPEG compression, which is not supported", hint=_CONVERT)
    codec = av.CodecContext.create(name, "r")
    codec.options = {**CODEC_OPTIONS, **_STRICT.get(name, {})}
    packet = av.Packet(len(data))  # allocates the padding that decoders need
    packet.update(data)
    try:
        frame = next(iter([*codec.decode(packet), *codec.decode(None)]), None)
    except av.error.FFmpegError:
        frame = None
    if frame is None:
        kind = _FORMAT_NAMES.get(name, name.upper())
        raise VideoError(
            f"{path} cannot be read as an image: it is damaged, truncated, a variant of {kind} that FFmpeg does not "
            f"support, or has more than {MAX_FRAME_PIXELS} pixels",
            hint=_CONVERT,
        )
    notes = [*pixel_note(codec.sample_aspect_ratio)]
    if has_more_pages(data):
        notes.append("a picture has several pages; the first one is used")
    return frame, from_exif(exif_orientation(data)), notes


def _is_animated(data: bytes) -> bool:
    """Return whether the data is an animated PNG or WebP."""
    if data.startswith(b"RIFF"):
        return any(
            name == b"VP8X" and bool(content[:1] and content[0] & _ANIMATION) for name, content in webp_chunks(data)
        )
    if not data.startswith(b"\x89PNG"):
        return False
    frames = (int.from_bytes(content[:4], "big") for name, content in png_chunks(data) if name == b"acTL")
    return next(frames, 1) > 1
