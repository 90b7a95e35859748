"""Compute the rotary tables of each family, and bring its queries and keys into the common order of columns.

The common form rotates a row q of a head as ``q * cos + swap(q) * sin``, where ``swap`` exchanges the two halves. A
family that pairs neighbouring columns has the rows of its query and key weights permuted, and the columns of its tables
with them, which changes no score. Signs are part of ``sin``. Columns that a family does not rotate have 1 and 0, and so
do the rows of prefix tokens.

Sources: Hugging Face transformers, ``modeling_vjepa2.py``, ``modeling_dinov3_vit.py``; timm, ``pos_embed_sincos.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import TransformerConfig

__all__ = ["Rotary", "dinov3_rotary", "eva_rotary", "vjepa2_rotary", "with_rotary"]

Floats = npt.NDArray[np.floating]
Table = npt.NDArray[np.float64]

_BASE: Final = 10000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Rotary:
    """A rotation of queries and keys in the common form.

    Args:
        cos: factors of a row, float64 ``[cubes, head width]``.
        sin: factors of the row with its halves exchanged, signs included; same shape.
        columns: the family's column at each place of a head, int64 ``[head width]``.
    """

    cos: Table
    sin: Table
    columns: npt.NDArray[np.int64]


def vjepa2_rotary(geometry: ClipGeometry, head_width: int) -> Rotary:
    """Compute the tables of V-JEPA 2, exactly as its released code does.

    A third of the columns each for time, row and column, rounded down to an even number; the rest is not rotated. The
    code pairs neighbouring columns, but repeats its frequencies after half of a third. The two columns of a pair
    therefore have different angles: this is not a rotation, and the released weights were trained with it.

    Raises:
        UnsupportedModelError: the width of a head is odd.
    """
    _require_even(head_width)
    section = 2 * (head_width // 3 // 2)
    frequencies = np.tile(_BASE ** -(np.arange(section // 2) / (section / 2)), 2)
    positions = np.indices(geometry.grid).reshape(3, -1)
    angles = np.concatenate([axis[:, None] * frequencies for axis in positions], axis=1)
    rest = head_width - angles.shape[1]
    return _interleaved(np.pad(angles, ((0, 0), (0, rest))))


def eva_rotary(
    geometry: ClipGeometry, head_width: int, *, reference: int | None, offset: float = 0.0, columns_first: bool = False
) -> Rotary:
    """Compute the tables of timm's ``Eva`` models: half of a head's pairs for rows, half for columns.

    Args:
        geometry: geometry of the image.
        head_width: width of a head.
        reference: rows and columns of the grid that positions are scaled to; None if they are not scaled.
        offset: offset of the first position.
        columns_first: whether the first half of the pairs is for columns.

    Raises:
        UnsupportedModelError: the width of a head is not a multiple of 4.
    """
    if head_width % 4:
        raise UnsupportedModelError(
            f"rotary positions of rows and columns need heads of width 4 n, received {head_width}"
        )
    bands = head_width // 4
    frequencies = _BASE ** -(np.arange(bands) / bands)
    places = [np.arange(size) + offset for size in geometry.grid[1:]]
    if reference is not None:
        places = [place / len(place) * reference for place in places]
    rows, columns = (axis.reshape(-1, 1) for axis in np.meshgrid(*places, indexing="ij"))
    first, second = (columns, rows) if columns_first else (rows, columns)
    return _interleaved(np.repeat(np.concatenate([first * frequencies, second * frequencies], axis=1), 2, axis=1))


def dinov3_rotary(geometry: ClipGeometry, head_width: int, *, base: float) -> Rotary:
    """Compute the tables of DINOv3: angles of the centres of patches, from -1 to 1 in each direction.

    Centres and frequencies are rounded to float32 where its code does so if the model computes in float64.

    Raises:
        UnsupportedModelError: the width of a head is not a multiple of 4.
    """
    import torch

    if head_width % 4:
        raise UnsupportedModelError(
            f"rotary positions of rows and columns need heads of width 4 n, received {head_width}"
        )
    frequencies = 1 / base ** torch.arange(0, 1, 4 / head_width, dtype=torch.float32)
    centres = [2.0 * (torch.arange(0.5, size, dtype=torch.float32) / size) - 1.0 for size in geometry.grid[1:]]
    turns = 2 * np.pi * torch.stack(torch.meshgrid(*centres, indexing="ij"), dim=-1).reshape(-1, 2)
    angles = (turns.double()[:, :, None] * frequencies.double()).flatten(1).numpy()
    sin = np.sin(angles)
    return Rotary(
        cos=np.tile(np.cos(angles), 2), sin=np.concatenate([-sin, sin], axis=1), columns=np.arange(head_width)
    )


def with_rotary(weights: Mapping[str, Floats], config: TransformerConfig, rotary: Rotary) -> dict[str, Floats]:
    """Return the weights with rotary tables, and with queries and keys in the common order of columns."""
    prefix = config.tokens - len(rotary.cos)
    ones = np.ones((prefix, config.head_width))
    tables = {
        "rotary.cos": np.concatenate([ones, rotary.cos]),
        "rotary.sin": np.concatenate([0 * ones, rotary.sin]),
    }
    moved = {
        name: _moved(name, array, config, rotary.columns)
        for name, array in weights.items()
        if name.startswith("blocks.") and "attention." in name
    }
    return {**weights, **moved, **tables}


def _moved(name: str, array: Floats, config: TransformerConfig, columns: npt.NDArray[np.int64]) -> Floats:
    """Permute the rows of queries and keys inside every head; return any other array as it is."""
    if ".attention.qkv." in name:
        parts = array.reshape(3, config.heads, config.head_width, -1)
        return np.concatenate([parts[:2, :, columns], parts[2:]]).reshape(array.shape)
    if ".attention.q_norm." in name or ".attention.k_norm." in name:
        return array.reshape(-1, config.head_width)[:, columns].reshape(array.shape)
    return array


def _interleaved(angles: Table) -> Rotary:
    """Return the rotation that pairs columns 0 and 1, 2 and 3, ..., of the angle of each column."""
    width = angles.shape[1]
    columns = np.concatenate([np.arange(0, width, 2), np.arange(1, width, 2)])
    sin = np.sin(angles)[:, columns]
    sin[:, : width // 2] *= -1
    return Rotary(cos=np.cos(angles)[:, columns], sin=sin, columns=columns)


def _require_even(head_width: int) -> None:
    if head_width % 2:
        raise UnsupportedModelError(f"rotary positions need heads of an even width, received {head_width}")
