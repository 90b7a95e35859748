from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.geometry import MAX_CLIP_VALUES, MAX_CUBE_VALUES, MAX_CUBES, MAX_SIDE


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


def test_clips_have_three_channels_unless_said() -> None:
    assert str(ClipGeometry(frames=2, height=8, width=8, cube=(1, 4, 4))) == "2x8x8x3/1x4x4"


@pytest.mark.parametrize("name", ["frames", "height", "width", "channels", "cube"])
def test_no_size_is_below_one(name: str) -> None:
    sizes: dict[str, Any] = {"frames": 2, "height": 8, "width": 8, "channels": 3, "cube": (1, 4, 4)}
    for wrong in (0, -2):
        with pytest.raises(ValueError, match="at least 1"):
            ClipGeometry(**sizes | {name: (1, wrong, 4) if name == "cube" else wrong})


@pytest.mark.parametrize(("axis", "text"), [("frames", "3x8x8x3"), ("height", "4x6x8x3"), ("width", "4x8x6x3")])
def test_every_side_is_a_whole_number_of_cubes(axis: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"{axis} . is not a multiple of the cube's"):
        ClipGeometry.parse(f"{text}/2x4x4")


def test_the_limits_are_those_of_the_format() -> None:
    assert (MAX_SIDE, MAX_CUBES, MAX_CUBE_VALUES, MAX_CLIP_VALUES) == (16384, 131072, 65536, 268435456)


LARGEST = {
    "frames": "16384x1x1x1/1x1x1",
    "height": "1x16384x1x1/1x1x1",
    "width": "1x1x16384x1/1x1x1",
    "channels": "1x1x1x16384/1x1x1",
    "cubes": "32x64x64x1/1x1x1",
    "values of a cube": "16x64x64x1/16x64x64",
    "values of a clip": "1024x512x512x1/16x64x64",
}
TOO_LARGE = {
    "frames": ("16385x1x1x1/1x1x1", "expected sides of at most"),
    "height": ("1x16385x1x1/1x1x1", "expected sides of at most"),
    "width": ("1x1x16385x1/1x1x1", "expected sides of at most"),
    "channels": ("1x1x1x16385/1x1x1", "expected sides of at most"),
    "cubes": ("1x363x362x1/1x1x1", "received 131406, 1 and 131406"),
    "values of a cube": ("1x364x362x1/1x364x362", "received 1, 131768 and 131768"),
    "values of a clip": ("1028x512x512x1/4x64x64", "received 16448, 16384 and 269484032"),
}


@pytest.mark.parametrize("text", LARGEST.values(), ids=LARGEST)
def test_the_largest_geometries_are_taken(text: str) -> None:
    assert str(ClipGeometry.parse(text)) == text


@pytest.mark.parametrize(("text", "message"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_geometry_beyond_the_limits_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipGeometry.parse(text)


def test_rows_of_cubes_hold_their_values_where_the_index_says() -> None:
    geometry = ClipGeometry.parse("4x4x6x2/2x2x3")
    clip = np.arange(192).reshape(geometry.clip_shape)
    rows = geometry.to_rows(clip, np)
    assert rows.shape == (4, 48)
    np.testing.assert_array_equal(rows[:, geometry.row_index()].reshape(8, 24), geometry.to_cubes(clip, np))
    np.testing.assert_array_equal(geometry.to_rows(clip[2:], np), rows[2:])


def test_a_long_text_is_cut_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"y{100}'$") as caught:
        ClipGeometry.parse("y" * 5000)
    assert str(caught.value).count("y") == 101  # and that of "geometry"
