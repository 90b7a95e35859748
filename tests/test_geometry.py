from __future__ import annotations

import numpy as np
import pytest

from lcve_deploy import ClipGeometry


def test_sizes_of_the_papers_setting() -> None:
    geometry = ClipGeometry.parse("16x224x224x3/2x16x16")
    assert (geometry.cubes, geometry.values, geometry.grid) == (1568, 1536, (8, 14, 14))
    assert str(geometry) == "16x224x224x3/2x16x16"


@pytest.mark.parametrize(
    "text", ["", "16x224x224x3", "16x224x224x3/2x16", "0x8x8x3/1x8x8", "16x225x224x3/2x16x16", "16x224x224x3/2x16x16 "]
)
def test_what_is_no_geometry_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ClipGeometry.parse(text)


def test_cubes_are_numbered_row_major() -> None:
    geometry = ClipGeometry.parse("4x4x6x1/2x2x3")
    clip = np.arange(96).reshape(4, 4, 6, 1)
    cubes = geometry.to_cubes(clip, np)
    assert cubes[0].tolist() == [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32]
    assert cubes[1, 0] == clip[0, 0, 3, 0]
    assert cubes[2, 0] == clip[0, 2, 0, 0]
    assert cubes[4, 0] == clip[2, 0, 0, 0]
    np.testing.assert_array_equal(geometry.from_cubes(cubes, np), clip)
