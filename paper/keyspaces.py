"""Table 1 as it is computed: the package's own where it has it, else two lines of exact arithmetic."""

from __future__ import annotations

import dataclasses
import importlib.util
import math
from typing import Final

from lcve_deploy.geometry import ClipGeometry
from paper.encryption import Level

__all__ = ["SMALL", "THE_PAPERS", "key_space_sizes"]

THE_PAPERS: Final = ClipGeometry(frames=16, height=224, width=224, cube=(2, 16, 16))
"""The geometry of the paper's column "Our setting"."""
SMALL: Final = ClipGeometry(frames=16, height=64, width=64, cube=THE_PAPERS.cube)
"""That of the clips of the experiments."""

_DIGITS: Final = 2


def key_space_sizes(geometry: ClipGeometry) -> dict[tuple[str, Level], str]:
    """The size of every method's key space like ``3.5×10^8560``, in the order of Table 1."""
    if importlib.util.find_spec("lcve_deploy.keyspace") is None:
        return _computed(geometry)
    from lcve_deploy.keyspace import key_spaces

    return {(space.method, Level(space.level)): str(space.size) for space in key_spaces(geometry)}


def _computed(geometry: ClipGeometry) -> dict[tuple[str, Level], str]:
    _, height, width = geometry.cube
    frame = dataclasses.replace(geometry, frames=1, cube=(1, height, width))
    sizes = {(name, Level.FRAME): size for name, size in _sizes(frame, "Patch Shuffle", 4).items()}
    sizes |= {(name, Level.VIDEO): size for name, size in _sizes(geometry, "Cube Shuffle", 8).items()}
    return {key: _short(size) for key, size in sizes.items()}


def _sizes(geometry: ClipGeometry, blocks_shuffle: str, parts: int) -> dict[str, int]:
    """``parts``: sub-blocks of a block."""
    values, blocks = math.factorial(geometry.values), math.factorial(geometry.cubes)
    halves, pixels = 2 * geometry.values, math.prod(geometry.cube) // parts
    return {
        "Pixel Shuffle": values,
        blocks_shuffle: blocks,
        "LE": math.factorial(halves) << halves,
        "Qi et al.": math.factorial(pixels) * blocks,
        "LCVE": values * blocks,
    }


def _short(size: int) -> str:
    """Two digits, halves up, from the exact integer."""
    exponent = math.floor(math.log2(size) * math.log10(2))
    while 10 ** (exponent + 1) <= size:
        exponent += 1
    while 10**exponent > size:
        exponent -= 1
    unit = 10 ** max(exponent - _DIGITS + 1, 0)
    mantissa = (2 * size + unit) // (2 * unit)
    tens, ones = divmod(mantissa, 10)
    return f"{tens}.{ones}×10^{exponent}" if tens < 10 else f"1.0×10^{exponent + 1}"
