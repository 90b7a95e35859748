"""Position tables for other clips than those that the oracles have: each codebase's own grid, and what lies between."""

from __future__ import annotations

import numpy as np
import pytest

from lcve_deploy.errors import UnsupportedModelError
from lcve_deploy.exporters.checkpoints.positions import internvideo_table, mvd_table, umt_table
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.transformer import sinusoid_table

WIDTH = 32


@pytest.mark.parametrize("clip", ["8x224x224x3/1x14x14", "16x224x224x3/2x14x14", "8x224x256x3/1x14x16"])
def test_umt_has_a_grid_of_its_own_for_cubes_of_14_pixels(clip: str) -> None:
    np.testing.assert_array_equal(umt_table(ClipGeometry.parse(clip), WIDTH), sinusoid_table(8 * 16 * 16, WIDTH))


def test_umt_saves_the_table_of_another_number_of_cubes() -> None:
    with pytest.raises(UnsupportedModelError, match="a clip of 2304 cubes"):
        umt_table(ClipGeometry.parse("9x224x224x3/1x14x14"), WIDTH)


@pytest.mark.parametrize(("clip", "cubes"), [("16x224x224x3/1x16x16", 16 * 14 * 14), ("16x210x210x3/1x15x15", 3136)])
def test_internvideo_begins_with_16_frames_of_224_pixels(clip: str, cubes: int) -> None:
    np.testing.assert_array_equal(internvideo_table(ClipGeometry.parse(clip), WIDTH), sinusoid_table(cubes, WIDTH))


@pytest.mark.parametrize("cube", ["17x16x16", "2x225x16", "2x16x225"])
def test_cubes_beyond_internvideos_clip_have_no_table(cube: str) -> None:
    t, h, w = map(int, cube.split("x"))
    with pytest.raises(UnsupportedModelError, match=f"does not support cubes of {cube}"):
        internvideo_table(ClipGeometry(frames=t, height=h, width=w, cube=(t, h, w)), WIDTH)


def test_half_as_many_frames_have_the_mean_of_two() -> None:
    """The grid's time and width are equal here."""
    table = internvideo_table(ClipGeometry.parse("16x128x128x3/2x16x16"), WIDTH).reshape(4, 2, 64, WIDTH)
    halved = internvideo_table(ClipGeometry.parse("8x128x128x3/2x16x16"), WIDTH).reshape(4, 64, WIDTH)
    np.testing.assert_allclose(halved, table.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("clip", ["28x224x224x3/2x16x16", "16x128x64x3/2x16x16", "16x224x112x3/2x16x16"])
def test_a_table_has_a_row_for_each_cube(clip: str) -> None:
    geometry = ClipGeometry.parse(clip)
    assert internvideo_table(geometry, WIDTH).shape == (geometry.cubes, WIDTH)


def test_each_axis_of_mvds_positions_has_columns_of_its_own() -> None:
    """Two frames, three rows and four columns of cubes; a quarter of the columns for time, the rest for the others."""
    table = mvd_table(ClipGeometry.parse("4x24x32x3/2x8x8"), WIDTH).reshape(2, 3, 4, WIDTH)
    time, column, row = table[..., :8], table[..., 8:20], table[..., 20:]
    angles = np.arange(4)[:, None] / 10000.0 ** (np.arange(6) / 6)
    assert (time == time[:, :1, :1]).all()
    np.testing.assert_allclose(column, np.broadcast_to(np.hstack([np.sin(angles), np.cos(angles)]), column.shape))
    np.testing.assert_allclose(row, np.broadcast_to(column[:, :, :3].swapaxes(1, 2)[:, :, :1], row.shape))
    np.testing.assert_allclose(
        time[1, 0, 0], [*np.sin(10000.0 ** -(np.arange(4) / 4)), *np.cos(10000.0 ** -(np.arange(4) / 4))]
    )
