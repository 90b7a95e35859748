"""Clips to compare with where the user names none: real ones, noise, and one made of texture.

``big_buck_bunny.npz`` holds two short clips of "Big Buck Bunny" (© 2008 Blender Foundation,
www.bigbuckbunny.org, Creative Commons Attribution 3.0), reduced in size.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.geometry import ClipGeometry

__all__ = ["noise_clip", "real_clips", "textured_clip", "textured_clips"]

Clips = npt.NDArray[np.uint8]

_MIRRORS: Final = ((), (2,), (3,), (1,), (2, 3), (1, 2), (1, 3), (1, 2, 3))


def real_clips(geometry: ClipGeometry) -> Clips:
    """Two clips of a real film, ``[2, T, H, W, C]``, stretched to the geometry."""
    with importlib.resources.files(__package__).joinpath("big_buck_bunny.npz").open("rb") as file:
        film = np.load(file, allow_pickle=False)["clips"]
    frames, rows, columns = (
        np.arange(size) * film.shape[axis] // size for axis, size in enumerate(geometry.clip_shape[:3], start=1)
    )
    clips = film[:, frames][:, :, rows][:, :, :, columns]
    return _with_channels(clips, geometry.channels)


def noise_clip(geometry: ClipGeometry) -> Clips:
    """Uniform random values, ``[1, T, H, W, C]``; the same every time."""
    return np.random.default_rng(0).integers(0, 256, (1, *geometry.clip_shape), dtype=np.uint8)


def textured_clip(geometry: ClipGeometry) -> Clips:
    """A clip on which every shuffle shows, ``[1, T, H, W, C]``.

    Every cube has the same strong texture (a corner against the rest, red against blue, early against
    late), so that its values out of order move all tokens the same way; and the brightness runs over
    the clip, so that cubes out of order show as well.
    """
    t, h, w, c = np.meshgrid(*(np.arange(size) for size in geometry.clip_shape), indexing="ij", sparse=True)
    ct, ch, cw = geometry.cube
    rising = (h % ch) / max(ch - 1, 1) + (w % cw) / max(cw - 1, 1)
    texture = np.where((rising > 0.9) ^ (c % 3 == 2) ^ ((t % ct) * 2 >= max(ct, 2)), 1.0, 0.0)
    light = 0.35 + 0.37 * h / geometry.height + 0.19 * w / geometry.width + 0.09 * t / geometry.frames
    clip: Clips = np.round(255 * np.broadcast_to(texture * light, geometry.clip_shape)).astype(np.uint8)
    return clip[None]


def textured_clips(geometry: ClipGeometry) -> Iterator[Clips]:
    """The textured clip and its seven mirror images, ``[1, T, H, W, C]`` each; every shuffle shows on each of them."""
    clip = textured_clip(geometry)
    for axes in _MIRRORS:
        yield np.ascontiguousarray(np.flip(clip, axes))


def _with_channels(clips: npt.NDArray[Any], channels: int) -> Clips:
    return np.ascontiguousarray(clips[..., np.arange(channels) % clips.shape[-1]])
