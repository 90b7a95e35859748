"""Geometry."""

from __future__ import annotations

import json

import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.geometry import MAX_CLIP_VALUES, MAX_CUBES, MAX_SIDE
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Preprocess
from tests.fuzz.helpers import (
    refusal,
    seed,
    tensor_file,
)


@pytest.mark.parametrize(
    "text",
    [
        f"{MAX_SIDE * 2}x1x1x3/1x1x1",
        "1024x1024x1024x3/1x1x1",
        "2x1024x1024x3/2x1024x1024",
        "128x1024x1024x3/2x16x16",
        "2048x512x512x1/1x64x64",
        "64x2048x1024x2/64x32x32",
        "16385x1x1x1/1x1x1",
        "1x1x1x16385/1x1x1",
        "8x128x129x1/1x1x1",
        "1x256x257x1/1x256x257",
        "999999999x999999999x999999999x999999999/1x1x1",
        "9999999999x1x1x3/1x1x1",
        "9" * 5000 + "x1x1x3/1x1x1",
    ],
)
def test_geometries_beyond_any_model_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"at most|expected a geometry"):
        ClipGeometry.parse(text)
    client = {**json.loads(seed("client")), "geometry": text}
    assert "geometry" in refusal("client", json.dumps(client).encode())


@pytest.mark.parametrize(
    "text",
    ["16x224x224x3/2x14x14", "64x224x224x3/2x14x14", "64x518x518x3/2x14x14", "32x1024x1024x3/2x16x16"],
)
def test_geometries_of_real_models_are_read(text: str) -> None:
    geometry = ClipGeometry.parse(text)
    assert geometry.cubes <= MAX_CUBES
    assert geometry.cubes * geometry.values <= MAX_CLIP_VALUES


@pytest.mark.parametrize(
    ("text", "cubes", "values"),
    [
        ("1024x512x512x1/1x64x64", 2**16, 2**12),  # N·L as large as it may be, N and L not
        ("2x256x256x1/1x1x1", 2**17, 1),
        ("1x256x256x1/1x256x256", 1, 2**16),
        ("16384x1x1x1/1x1x1", 2**14, 1),
    ],
)
def test_geometries_at_the_limits_are_read(text: str, cubes: int, values: int) -> None:
    geometry = ClipGeometry.parse(text)
    assert (geometry.cubes, geometry.values) == (cubes, values)


@pytest.mark.parametrize("target", ["clip", "client", "manifest"])
def test_no_reader_takes_more_values_than_a_clip_may_have(target: str) -> None:
    """N and L are each within their own limits."""
    text = "2048x512x512x1/1x64x64"
    if target == "clip":
        data = seed("clip", "cubes")
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header["__metadata__"]["geometry"] = text
        document = tensor_file(header, data[8 + length :])
    else:
        document = json.dumps({**json.loads(seed(target)), "geometry": text}).encode()
    assert "values per cube and 268435456 values" in refusal(target, document)


def test_a_short_side_has_a_limit() -> None:
    with pytest.raises(ValueError, match="at most"):
        Preprocess(frames=2, short_side=MAX_SHORT_SIDE + 1, crop=(4, 4))
