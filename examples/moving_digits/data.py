"""Moving digits: real handwritten digits, where the *motion* is the action.

Every clip shows one handwritten digit (scikit-learn's ``load_digits``) that moves in one of
eight ways. Which digit it is, and who wrote it, says nothing about the action. The split is by
digit image: no image of the held-out clips was ever seen in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FRAMES, SIZE = 16, 64

ACTIONS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "circles clockwise",
    "circles counter-clockwise",
    "grows",
    "shrinks",
)

_HELD_OUT_SHARE = 0.2

FloatArray = npt.NDArray[np.float64]
Clips = npt.NDArray[np.uint8]


def digit_images(*, held_out: bool) -> FloatArray:
    """Digit images of one side of the split.

    Shape: ``[images, 8, 8]``, float64, 0..1.
    """
    images: FloatArray = _digits().images[_side(held_out)] / 16.0
    return images


def digit_labels(*, held_out: bool) -> npt.NDArray[np.int64]:
    """Which digit each image of :func:`digit_images` shows, ``[images]``, 0..9."""
    return np.asarray(_digits().target[_side(held_out)], dtype=np.int64)


def _digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits()


def _side(held_out: bool) -> npt.NDArray[np.int64]:
    count = len(_digits().images)
    order = np.random.default_rng(20260101).permutation(count)
    cut = int(count * _HELD_OUT_SHARE)
    return order[:cut] if held_out else order[cut:]


def _paths(actions: npt.NDArray[np.int64], rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Centre ``[clips, FRAMES, 2]`` (row, column; pixels) and digit width ``[clips, FRAMES]``."""
    clips = len(actions)
    time = np.linspace(-1.0, 1.0, FRAMES)[None, :]
    reach = rng.uniform(10.0, 18.0, (clips, 1))
    widths = np.repeat(rng.uniform(18.0, 28.0, (clips, 1)), FRAMES, axis=1)
    rows, columns = np.zeros((clips, FRAMES)), np.zeros((clips, FRAMES))

    sideways, upright, circling, scaling = (actions // 2 == k for k in range(4))
    sign = np.where(actions % 2 == 0, -1.0, 1.0)[:, None]
    columns[sideways] = (sign * reach * time)[sideways]
    rows[upright] = (sign * reach * time)[upright]
    top = -np.pi / 2 + rng.uniform(-0.6, 0.6, (clips, 1))  # every circle begins near its top
    angle = top - sign * (time + 1) * rng.uniform(0.7, 1.0, (clips, 1)) * np.pi
    columns[circling] = (0.8 * reach * np.cos(angle))[circling]
    rows[circling] = (0.8 * reach * np.sin(angle))[circling]
    growth = np.exp(-sign * time * rng.uniform(0.3, 0.55, (clips, 1)))
    widths[scaling] = (widths * growth)[scaling]

    centre = SIZE / 2 + rng.uniform(-6.0, 6.0, (clips, 1, 2))
    jitter = rng.normal(0.0, 0.3, (clips, FRAMES, 2))
    return centre + jitter + np.stack([rows, columns], axis=-1), widths


def _hat(centre: FloatArray, width: FloatArray) -> FloatArray:
    """Bilinear weights ``[clips, FRAMES, SIZE, 8]`` that draw 8 samples ``width`` pixels wide."""
    pixel = np.arange(SIZE)[None, None, :]
    sample = (pixel - centre[..., None]) * (8.0 / width[..., None]) + 3.5
    weights: FloatArray = np.maximum(0.0, 1.0 - np.abs(sample[..., None] - np.arange(8)))
    return weights


def make_clips(
    images: FloatArray, actions: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[Clips, npt.NDArray[np.int64]]:
    """Draw one clip for each action.

    Args:
        images: digit images to draw from, ``[images, 8, 8]``, 0..1.
        actions: index into ``ACTIONS`` of each clip, ``[clips]``.
        rng: source of digit, path, colour and noise.

    Returns:
        Clips ``[clips, FRAMES, SIZE, SIZE, 3]`` (uint8 RGB), and the index of the digit image
        of each.
    """
    clips, chosen, _ = draw_clips(images, actions, rng)
    return clips, chosen


def draw_clips(
    images: FloatArray, actions: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[Clips, npt.NDArray[np.int64], FloatArray]:
    """Draw clips as :func:`make_clips` does, and return also how much ink of the digit is on each pixel.

    Shape: the ink is ``[clips, FRAMES, SIZE, SIZE]``, float64, 0..1.
    """
    chosen = rng.integers(len(images), size=len(actions))
    centre, width = _paths(actions, rng)
    mask = np.einsum(
        "btyk,bkl,btxl->btyx", _hat(centre[..., 0], width), images[chosen], _hat(centre[..., 1], width), optimize=True
    )
    ink = rng.uniform(0.55, 1.0, (len(actions), 1, 1, 1, 3))
    paper = rng.uniform(0.0, 0.35, (len(actions), 1, 1, 1, 3))
    clips = paper + (ink - paper) * mask[..., None]
    clips += rng.normal(0.0, 0.02, clips.shape)
    return (np.clip(clips, 0.0, 1.0) * 255.0).round().astype(np.uint8), chosen, mask


def held_out_clips(count: int, *, seed: int = 1) -> tuple[Clips, npt.NDArray[np.int64]]:
    """Return held-out clips and their actions: the same on every machine, and others for another count."""
    rng = np.random.default_rng(seed)
    actions = np.arange(count) % len(ACTIONS)
    return make_clips(digit_images(held_out=True), actions, rng)[0], actions
