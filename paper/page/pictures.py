"""``docs/evidence/paper-frames.png``: frames of two clips under every method, beside plain ones.

Shown are frames of a held-out clip of moving digits, enlarged, and a part of the frames of a real film, as large as
they are. Every pixel is one of the method's own output, or a square of equal ones: nothing is smoothed, so noise stays
noise. Values are rounded to 32 levels, so by 4 of 255 at most: noise in all of them would take half as much again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.samples import real_clips
from paper.experiments.dataset import GEOMETRY, held_out
from paper.findings.compared import PLAIN, level, short_title
from paper.methods.encryption import Clips
from paper.methods.table import METHODS, Downsampling, experiment_key
from paper.page.drawing import GREY

__all__ = ["FRAMES", "SHOWN", "SIDE", "Subject", "frames", "places", "rounded", "subjects", "write_frames"]

FRAMES: Final = (4, 11)
"""Counted from 0. They lie in different cubes."""
SHOWN: Final = (PLAIN, *METHODS)
"""What is shown, in the order of the picture."""
SIDE: Final = 128
"""Height and width of a frame in the picture, in pixels."""

_FILM: Final = ClipGeometry.parse("16x224x224x3/2x16x16")
_DIGIT, _DIGITS = 22, 24  # a clip that is well visible, and how many are drawn
_KEY: Final = 0

_MARGIN, _BETWEEN, _NARROW, _WIDE = 12, 32, 4, 12
_HEADING, _LABEL = 24, 30
_COLUMNS: Final = 2
_PAIR: Final = 2 * SIDE + _NARROW
_BLOCK: Final = 2 * _PAIR + _WIDE
_ROWS: Final = (len(SHOWN) + 1) // _COLUMNS
_WIDTH: Final = 2 * _MARGIN + _COLUMNS * _BLOCK + _BETWEEN
_HEIGHT: Final = 2 * _MARGIN + _HEADING + _ROWS * (_LABEL + SIDE)

_DPI: Final = 100
_LEVELS: Final = 32
_FONT: Final = "DejaVu Sans"  # comes with Matplotlib
_NOTE: Final = f"""Frames {FRAMES[0] + 1} and {FRAMES[1] + 1} of two clips of {GEOMETRY.frames} frames.
Of the digits, all is shown ({GEOMETRY.height}×{GEOMETRY.width});
of the film, {SIDE}×{SIDE} of {_FILM.height}×{_FILM.width} pixels.
Below, the frame and the video level of an encryption
stand side by side, all under one key.
Film: "Big Buck Bunny" © 2008 Blender Foundation, CC BY 3.0."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A clip, and what the picture shows of its frames.

    Args:
        title: for the picture.
        clips: the clip, ``[1, T, H, W, C]``, uint8.
        geometry: of the clip.
        corner: row and column where the part that is shown begins.
        enlarged: how many times.
    """

    title: str
    clips: Clips
    geometry: ClipGeometry
    corner: tuple[int, int]
    enlarged: int

    def part(self, frame: Clips) -> Clips:
        """What is shown of a frame ``[H, W, C]``: ``[SIDE, SIDE, C]``."""
        (row, column), side = self.corner, SIDE // self.enlarged
        part = frame[row : row + side, column : column + side]
        return part.repeat(self.enlarged, axis=0).repeat(self.enlarged, axis=1)


def subjects() -> tuple[Subject, ...]:
    """The clips of the picture, from left to right."""
    digits, film = held_out(_DIGITS).clips[_DIGIT][None], real_clips(_FILM)[:1]
    return (
        Subject(title="moving digits", clips=digits, geometry=GEOMETRY, corner=(0, 0), enlarged=2),
        Subject(title="film", clips=film, geometry=_FILM, corner=(48, 0), enlarged=1),
    )


def frames(subject: Subject, name: str) -> Clips:
    """The frames ``FRAMES`` of the clip under one of ``SHOWN``: ``[2, H, W, C]``, uint8."""
    return _changed(subject, name)[0, list(FRAMES)]


def places() -> Iterator[tuple[str, int, int]]:
    """Where each method's first frame stands: name, upper and left edge in pixels.

    Beside the plain frames is the note, so that both levels of an encryption come side by side.
    """
    for place, name in zip((0, *range(_COLUMNS, len(SHOWN) + 1)), SHOWN, strict=True):
        row, column = divmod(place, _COLUMNS)
        yield name, _MARGIN + _HEADING + _LABEL + row * (_LABEL + SIDE), _left(column)


def write_frames(path: Path) -> None:
    """Write the picture; the same versions of the libraries give the same bytes."""
    from PIL import Image

    shown = subjects()
    pixels = _with_text(_canvas(shown), [subject.title for subject in shown])
    Image.fromarray(rounded(pixels)).save(path, format="PNG", optimize=True)


def _changed(subject: Subject, name: str) -> Clips:
    if name == PLAIN:
        return subject.clips
    method = METHODS[name]
    if isinstance(method, Downsampling):
        return method.apply(subject.clips)
    return method.keyed(experiment_key(_KEY), subject.geometry).encrypt(subject.clips)


def _left(column: int) -> int:
    return _MARGIN + column * (_BLOCK + _BETWEEN)


def _pair_left(left: int, pair: int) -> int:
    """Left edge of a subject's frames in a block that begins at ``left``."""
    return left + pair * (_PAIR + _WIDE)


def _canvas(shown: tuple[Subject, ...]) -> Clips:
    """All frames on white, ``[height, width, 3]``, uint8."""
    canvas = np.full((_HEIGHT, _WIDTH, 3), 255, dtype=np.uint8)
    for name, top, edge in places():
        for pair, subject in enumerate(shown):
            for number, frame in enumerate(frames(subject, name)):
                left = _pair_left(edge, pair) + number * (SIDE + _NARROW)
                canvas[top : top + SIDE, left : left + SIDE] = subject.part(frame)
    return canvas


def _with_text(canvas: Clips, titles: list[str]) -> Clips:
    """The canvas with headings, a label above each method's frames, and the note."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH / _DPI, _HEIGHT / _DPI), dpi=_DPI)
    figure.figimage(canvas)
    for text, top, left, look in _texts(titles):
        figure.text(left / _WIDTH, 1 - top / _HEIGHT, text, family=_FONT, **look)
    drawn = FigureCanvasAgg(figure)
    drawn.draw()
    return np.asarray(drawn.buffer_rgba())[..., :3]


def rounded(pixels: Clips) -> Clips:
    """Pixels in 32 levels, which make smaller files."""
    step = 255 / (_LEVELS - 1)
    return np.rint(np.rint(pixels / step) * step).astype(np.uint8)


def _texts(titles: list[str]) -> Iterator[tuple[str, float, float, dict[str, Any]]]:
    """Texts with upper and left edge in pixels, and their look."""
    for column in range(_COLUMNS):
        for pair, title in enumerate(titles):
            middle = _pair_left(_left(column), pair) + _PAIR / 2
            yield title, _MARGIN, middle, {"size": 11, "color": GREY, "ha": "center", "va": "top"}
    for name, top, left in places():
        yield _label(name), top - 5, left, {"size": 12, "weight": "bold", "va": "bottom"}
    top, left = _MARGIN + _HEADING + _LABEL, _left(1)
    yield _NOTE, top, left, {"size": 11, "color": GREY, "va": "top", "linespacing": 1.3}


def _label(name: str) -> str:
    title = short_title(name)
    return title if level(name) == "-" else f"{title} level"
