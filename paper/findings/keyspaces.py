"""Table 1 as the package computes it."""

from __future__ import annotations

import functools
from typing import Final

from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.keys.keyspace import Level, key_spaces

__all__ = ["THE_PAPERS", "key_space_sizes"]

THE_PAPERS: Final = ClipGeometry(frames=16, height=224, width=224, cube=(2, 16, 16))
"""The geometry of the paper's column "Our setting"."""


@functools.cache
def key_space_sizes(geometry: ClipGeometry) -> dict[tuple[str, Level], str]:
    """The size of every method's key space like ``3.5×10^8560``, in the order of Table 1."""
    return {(space.method, space.level): str(space.size) for space in key_spaces(geometry)}
