"""The compared methods as a table: ``METHODS``."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from lcve_deploy import SecurityKey
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level
from paper.methods.downsampling import downsample
from paper.methods.encryption import Clips, Encryption
from paper.methods.learnable_encryption import learnable_encryption
from paper.methods.shuffles import cube_shuffle, lcve, pixel_shuffle, qi

__all__ = ["DOWNSAMPLINGS", "ENCRYPTIONS", "METHODS", "Downsampling", "Method", "encryption", "experiment_key"]

Make = Callable[[SecurityKey, ClipGeometry, Level], Encryption]


@dataclass(frozen=True, kw_only=True)
class Method:
    """An encryption of the paper's Table 1.

    Args:
        name: short, for files and commands.
        title: for tables.
        level: what it works on.
        make: gives it its key.
    """

    name: str
    title: str
    level: Level
    make: Make

    def keyed(self, key: SecurityKey, geometry: ClipGeometry) -> Encryption:
        """The encryption with a key, for clips of a geometry."""
        return self.make(key, geometry, self.level)


@dataclass(frozen=True, kw_only=True)
class Downsampling:
    """Downsampling by a factor; there is no key."""

    name: str
    title: str
    factor: int

    def apply(self, clips: Clips) -> Clips:
        """See :func:`~paper.methods.downsampling.downsample`."""
        return downsample(clips, self.factor)


_MADE: Final = (
    ("pixel", "Pixel shuffle", "Pixel shuffle", pixel_shuffle),
    ("cube", "Patch shuffle", "Cube shuffle", cube_shuffle),
    ("le", "LE", "LE extended to videos", learnable_encryption),
    ("qi", "Qi et al.", "Qi et al. extended to videos", qi),
    ("lcve", "LCVE on frames", "LCVE", lcve),
)

ENCRYPTIONS: Final = tuple(
    Method(name=f"{name}-{level}", title=title, level=level, make=make)
    for name, frame_title, video_title, make in _MADE
    for level, title in ((Level.FRAME, frame_title), (Level.VIDEO, video_title))
)
DOWNSAMPLINGS: Final = tuple(
    Downsampling(name=f"down-{factor}", title=f"Downsampling {factor}×", factor=factor) for factor in (2, 4, 8, 32)
)
_EVERY: Final[tuple[Method | Downsampling, ...]] = (*DOWNSAMPLINGS, *ENCRYPTIONS)
METHODS: Final = {method.name: method for method in _EVERY}


def encryption(name: str) -> Method:
    """Return the encryption of a name; KeyError if there is none."""
    return {method.name: method for method in ENCRYPTIONS}[name]


@functools.cache
def experiment_key(number: int) -> SecurityKey:
    """Key ``number`` of the experiments. Anyone can make it: it protects nothing."""
    return SecurityKey(hashlib.sha256(f"lcve-deploy/paper/key/{number}".encode()).digest())
