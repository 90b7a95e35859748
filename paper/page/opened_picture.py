"""``docs/evidence/paper-opened.png``: a frame of a film, under block-preserving encryption and H.264, and opened."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.wire.codecs import h264
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.samples import real_clips
from paper.experiments.small_clips.attack import open_clip
from paper.experiments.small_clips.measuring import QUALITY
from paper.experiments.small_clips.scores import best_view
from paper.methods.block_preserving import block_preserving
from paper.methods.table import experiment_key
from paper.page.pictures import rounded

__all__ = ["write_opened"]

_FILM: Final = ClipGeometry.parse("16x224x224x3/2x16x16")
_KEY: Final = 0
_BETWEEN: Final = 8


def write_opened(path: Path) -> None:
    """Write the first frame, plain, encrypted and coded, and as the attack opens it, side by side."""
    from PIL import Image

    clip = real_clips(_FILM)[0]
    coded = h264(block_preserving(experiment_key(_KEY), _FILM).encrypt(clip[None])[0], QUALITY)[1]
    opened = best_view(clip, open_clip(coded, _FILM).clip)
    white = np.full((_FILM.height, _BETWEEN, _FILM.channels), 255, np.uint8)
    pixels = np.concatenate([clip[0], white, coded[0], white, opened[0]], axis=1)
    Image.fromarray(rounded(pixels)).save(path, format="PNG", optimize=True)
