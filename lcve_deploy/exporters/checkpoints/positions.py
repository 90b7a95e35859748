"""Compute the position tables that codebases do not save in their files.

Each function takes the clip's geometry and the model's width, and returns float32 ``[cubes, width]`` in the order of
the cubes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import sinusoid_table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TableFunction", "internvideo_table", "mvd_table", "umt_table", "videomae_table"]

Table = npt.NDArray[np.float32]
TableFunction = Callable[[ClipGeometry, int], Table]
Grid = tuple[int, int, int]

_MVD_MULTIPLE: Final = 16
_UMT_GRIDS: Final = {14: (8, 16, 16)}
_UMT_GRID: Final = (8, 14, 14)
_INTERNVIDEO_FRAMES: Final = 16
_INTERNVIDEO_SIZE: Final = 224


def videomae_table(geometry: ClipGeometry, width: int) -> Table:
    """Compute the sinusoid over the flattened index of the cubes.

    Source: VideoMAE and VideoMAEv2, ``get_sinusoid_encoding_table``.
    """
    return sinusoid_table(geometry.cubes, width)


def mvd_table(geometry: ClipGeometry, width: int) -> Table:
    """Compute MVD's table: a quarter of the columns for time, the others for column and row; sines, then cosines.

    Source: MVD, ``get_3d_sincos_pos_embed``.

    Raises:
        CheckpointError: the width is not a multiple of 16.
    """
    if width % _MVD_MULTIPLE:
        raise CheckpointError(
            f"MVD's positions need a width that is a multiple of {_MVD_MULTIPLE}, received {width}",
            hint="if another codebase wrote the checkpoint, pass --family NAME",
        )
    times, rows, columns = np.indices(geometry.grid).reshape(3, -1)
    time, space = width // 4, width // 4 * 3 // 2
    parts = [_sines_and_cosines(times, time), _sines_and_cosines(columns, space), _sines_and_cosines(rows, space)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def umt_table(geometry: ClipGeometry, width: int) -> Table:
    """Interpolate VideoMAE's sinusoid for 8 frames of 14x14 cubes to the clip's grid.

    UMT saves the table as a weight, unless the clip has as many cubes as the original grid.

    Source: UMT (unmasked_teacher), ``get_sinusoid_encoding_table``.

    Raises:
        UnsupportedModelError: the clip has another number of cubes, for which UMT saves its table.
    """
    base = _UMT_GRIDS.get(geometry.cube[1], _UMT_GRID)
    if geometry.cubes != np.prod(base):
        raise UnsupportedModelError(
            f"UMT saves its positions for a clip of {geometry.cubes} cubes, but the checkpoint has no pos_embed",
            hint="pass the clip size that the model was trained with (--frames, --size), or its codebase "
            "(--family NAME)",
        )
    return _interpolated(base, geometry.grid, width)


def internvideo_table(geometry: ClipGeometry, width: int) -> Table:
    """Interpolate VideoMAE's sinusoid for 16 frames of 224 pixels to the clip's grid.

    Source: InternVideo1, ``Pretrain/VideoMAE``, ``modeling_finetune.py`` and ``run_class_finetuning.py``.

    Raises:
        UnsupportedModelError: a cube is larger than 16 frames of 224 pixels.
    """
    t, h, w = geometry.cube
    base = (_INTERNVIDEO_FRAMES // t, _INTERNVIDEO_SIZE // h, _INTERNVIDEO_SIZE // w)
    if 0 in base:
        raise UnsupportedModelError(f"InternVideo1's position table does not support cubes of {t}x{h}x{w}")
    return _interpolated(base, geometry.grid, width)


def _sines_and_cosines(positions: npt.NDArray[np.intp], width: int) -> npt.NDArray[np.float64]:
    """Compute the sines of all angles, then their cosines, ``[positions, width]``."""
    angles = positions[:, None] / 10000.0 ** (np.arange(width // 2) / (width / 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _interpolated(base: Grid, grid: Grid, width: int) -> Table:
    """Interpolate the sinusoid of one grid to another in float32: bicubic in space, then linear in time."""
    import torch

    table = torch.from_numpy(sinusoid_table(int(np.prod(base)), width)).reshape(*base, width)
    if grid[1:] != base[1:]:
        table = _in_space(table, grid)
    if grid[0] != base[0]:
        table = _in_time(table, grid)
    return table.reshape(-1, width).numpy()


def _in_space(table: Tensor, grid: Grid) -> Tensor:
    from torch.nn.functional import interpolate

    moved = interpolate(table.permute(0, 3, 1, 2), size=grid[1:], mode="bicubic", align_corners=False)
    return moved.permute(0, 2, 3, 1)


def _in_time(table: Tensor, grid: Grid) -> Tensor:
    from torch.nn.functional import interpolate

    _, rows, columns, width = table.shape
    moved = interpolate(table.permute(1, 2, 3, 0).reshape(-1, width, len(table)), size=grid[0], mode="linear")
    return moved.reshape(rows, columns, width, grid[0]).permute(3, 0, 1, 2)
