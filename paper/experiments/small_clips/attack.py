"""What one clip under block-preserving encryption gives, without any key and after a codec.

All blocks are changed alike inside. So the 24 · 8^4 · 2^3 ways to put the four sub-blocks of a block together are
tried on all blocks at once, by how well they fit at the four seams. What is left is a jigsaw puzzle of blocks, which
the package's own solver assembles. The clip comes out up to what a viewer sees at once: turned or mirrored as a whole,
negated as a whole, and with colours exchanged.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.attacks.holdings import Estimate, Holdings
from lcve_deploy.attacks.jigsaw import solve_jigsaw
from lcve_deploy.attacks.solvers.faces import face_similarity
from lcve_deploy.attacks.solvers.repairing import neighbour_fit
from lcve_deploy.geometry import ClipGeometry
from paper.methods.block_preserving import SUB_BLOCKS, TURNS, BlockPreserving, InnerKey, split_block, turned
from paper.methods.encryption import Clips, as_blocks, as_clips

__all__ = ["TRIED", "Opened", "assemble", "find_inner_key", "in_place", "open_clip"]

_STATES: Final = 2 * TURNS
"""Ways to turn a sub-block, as it is and negated."""
_WHITE: Final = 255
TRIED: Final = 24 * TURNS**SUB_BLOCKS * 2 ** (SUB_BLOCKS - 1)

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """What an attacker has made of an encrypted clip.

    Args:
        clip: in some view, ``[T, H, W, C]``.
        blocks: which block of the encrypted clip is at each place, ``[H/h, W/w]``.
        fit: how well the blocks fit.
    """

    clip: Clips
    blocks: npt.NDArray[np.int64]
    fit: float


def open_clip(clip: Clips, geometry: ClipGeometry) -> Opened:
    """Open one encrypted clip.

    Args:
        clip: encrypted, and coded and decoded, ``[T, H, W, C]``.
        geometry: clip and cube size, which are public.

    Raises:
        ValueError: frames that are not square: turned, they would not fit the grid of blocks.
    """
    if geometry.height != geometry.width:
        raise ValueError(f"expected square frames, received {geometry.height}x{geometry.width}")
    return assemble(in_place(clip, find_inner_key(clip, geometry), geometry), geometry)


def in_place(clip: Clips, inner: InnerKey, geometry: ClipGeometry) -> Clips:
    """Return the encrypted clip with the sub-blocks of every block in place, and blocks where they are."""
    blocks = np.arange(geometry.cubes // geometry.grid[0])
    upright: Clips = BlockPreserving(geometry, blocks, inner).decrypt(clip[None])[0]
    return upright


def find_inner_key(clip: Clips, geometry: ClipGeometry) -> InnerKey:
    """Try all ways to put sub-blocks together; the colours stay as they are, since seams do not show their order.

    Args:
        clip: encrypted, ``[T, H, W, C]``.
        geometry: clip and cube size.
    """
    beside, below = _misfits(clip, geometry)
    ways = itertools.permutations(range(SUB_BLOCKS))
    _, places, states = min(_best_states(places, beside, below) for places in ways)
    return _inner_key(places, states, channels=geometry.channels)


def assemble(clip: Clips, geometry: ClipGeometry) -> Opened:
    """Assemble the blocks of a clip whose sub-blocks are in place.

    A block reaches over all frames, so it is one large piece of the puzzle. The solver may stop at a layout that fits
    less well than another, so it starts from the clip turned and mirrored in every way.
    """
    numbers = np.arange(geometry.cubes // geometry.grid[0]).reshape(*geometry.grid[1:], 1)
    found = [_assembled(turned(clip, way), turned(numbers, way)[..., 0], geometry) for way in range(TURNS)]
    return max(found, key=lambda opened: opened.fit)


def _assembled(clip: Clips, numbers: npt.NDArray[np.int64], geometry: ClipGeometry) -> Opened:
    pieces = dataclasses.replace(geometry, cube=(geometry.frames, *geometry.cube[1:]))
    blocks = as_blocks(np.ascontiguousarray(clip)[None], pieces)
    values = Estimate(values=np.arange(pieces.values))
    found = solve_jigsaw(Holdings(geometry=pieces, ciphertexts=blocks, found=values))
    layout = np.argsort(found.order("cubes"))
    return Opened(
        clip=as_clips(blocks[:, layout], pieces, (1, *clip.shape))[0],
        blocks=numbers.reshape(-1)[layout].reshape(numbers.shape),
        fit=neighbour_fit(face_similarity(blocks, pieces), layout, pieces.grid),
    )


def _misfits(clip: Clips, geometry: ClipGeometry) -> tuple[Floats, Floats]:
    """Return how badly a sub-block fits to the right of another, and below it: ``[4, 4, 16, 16]``.

    An entry is for the one, the other, and how each of them is turned and negated.
    """
    cubes = as_blocks(clip[None], geometry).reshape(-1, *geometry.cube, geometry.channels)
    parts = split_block(cubes).astype(np.float32)
    edges = np.stack([_edges(part) for part in parts])  # [4, sides, states, values]
    right, left, bottom, top = (edges[:, side].reshape(SUB_BLOCKS * _STATES, -1) for side in range(4))
    return _apart(right, left), _apart(bottom, top)


def _edges(part: Floats) -> Floats:
    """Return right, left, bottom and top edge of a sub-block ``[N, t, side, side, C]`` by state: ``[4, 16, values]``.

    An edge is extrapolated by half a pixel, as both sides of a seam should meet there.
    """
    states = []
    for negated in (False, True):
        tone = _WHITE - part if negated else part
        for number in range(TURNS):
            states.append([_beyond(np.moveaxis(turned(tone, number), axis, 0)[::step]) for axis, step in _SIDES])
    return np.moveaxis(np.array(states), 1, 0)


_SIDES: Final = ((-2, -1), (-2, 1), (-3, -1), (-3, 1))
"""Axis of each edge, and the direction from it inwards."""


def _beyond(lines: Floats) -> Floats:
    beyond: Floats = (1.5 * lines[0] - 0.5 * lines[1]).reshape(-1)
    return beyond


def _apart(first: Floats, second: Floats) -> Floats:
    """Return squared distances, ``[sub-block, sub-block, state, state]``."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    apart: Floats = squares.reshape(SUB_BLOCKS, _STATES, SUB_BLOCKS, _STATES).transpose(0, 2, 1, 3)
    return apart


def _total(places: tuple[int, ...], beside: Floats, below: Floats) -> Floats:
    """Return the misfit at all four seams, by the state of each place's sub-block: ``[16, 16, 16, 16]``."""
    a, b, c, d = places
    upper, lower = beside[a, b][:, :, None, None], beside[c, d][None, None]
    left, right = below[a, c][:, None, :, None], below[b, d][None, :, None]
    total: Floats = upper + lower + left + right
    return total


def _best_states(
    places: tuple[int, ...], beside: Floats, below: Floats
) -> tuple[float, tuple[int, ...], tuple[int, ...]]:
    """Return the least misfit with sub-blocks at these places, the places, and the states."""
    total = _total(places, beside, below)[:TURNS]  # the first one as it is: negated as a whole, all is as good
    states = np.unravel_index(int(total.argmin()), total.shape)
    return float(total.min()), places, tuple(map(int, states))


def _inner_key(places: tuple[int, ...], states: tuple[int, ...], channels: int) -> InnerKey:
    """Return the key whose inverse puts encrypted sub-block ``places[i]``, in state ``states[i]``, on place i."""
    found: dict[str, Any] = {"places": np.empty(4, int), "turns": np.empty(4, int), "negated": np.empty(4, bool)}
    for plain, (encrypted, state) in enumerate(zip(places, states, strict=True)):
        found["places"][encrypted] = plain
        found["turns"][encrypted] = _INVERSE[state % TURNS]
        found["negated"][encrypted] = state >= TURNS
    return InnerKey(**found, colours=np.arange(channels))


_INVERSE: Final = (0, 3, 2, 1, 4, 5, 6, 7)
"""What undoes each way to turn a square: mirror images undo themselves."""
