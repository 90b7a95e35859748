"""Table 1 as the package computes it."""

from __future__ import annotations

import functools
from typing import Final

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level, count_keys, key_spaces
from paper.methods.block_preserving import SUB_BLOCKS

__all__ = ["BLOCKS_FORMULA", "DCT_FORMULA", "THE_PAPERS", "block_preserving_size", "dct_size", "key_space_sizes"]

BLOCKS_FORMULA: Final = "N_p!·4!·8^4·2^4·3!"
DCT_FORMULA: Final = "(thwC)!·2^(thwC)·N_c!"

THE_PAPERS: Final = ClipGeometry(frames=16, height=224, width=224, cube=(2, 16, 16))
"""The geometry of the paper's column "Our setting"."""


@functools.cache
def key_space_sizes(geometry: ClipGeometry) -> dict[tuple[str, Level], str]:
    """The size of every method's key space like ``3.5×10^8560``, in the order of Table 1."""
    return {(space.method, space.level): str(space.size) for space in key_spaces(geometry)}


@functools.cache
def block_preserving_size(geometry: ClipGeometry) -> str:
    """Return the size of the key space of :mod:`paper.methods.block_preserving`."""
    blocks = geometry.cubes // geometry.grid[0]
    flips = 3 * SUB_BLOCKS + SUB_BLOCKS  # eight ways to turn each, two to negate it
    return str(count_keys((blocks, SUB_BLOCKS, geometry.channels), flips=flips))


@functools.cache
def dct_size(geometry: ClipGeometry) -> str:
    """Return the size of the key space of ``lcve-dct-1``: that of LCVE, and a sign for every coefficient."""
    return str(count_keys((geometry.values, geometry.cubes), flips=geometry.values))
