"""safetensors."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.errors import EncryptedClipError
from lcve_deploy.files import reading as inputs
from tests.fuzz.helpers import (
    refusal,
    tensor_file,
)


@pytest.mark.parametrize("target", ["clip", "probe", "keyed", "key_probe"])
@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "C64", "X"])
def test_dtypes_that_numpy_lacks_are_refused(target: str, dtype: str) -> None:
    """They were an AttributeError or a TypeError."""
    size = {"BF16": 2, "C64": 8}.get(dtype, 1)
    refusal(target, tensor_file({"clip": {"dtype": dtype, "shape": [1], "data_offsets": [0, size]}}, bytes(size)))


def metadata(dtype: str) -> bytes:
    """A file with a tensor of a dtype that NumPy lacks."""
    return tensor_file({"x": {"dtype": dtype, "shape": [1], "data_offsets": [0, 1]}}, b"a")


def test_a_probe_with_a_dtype_that_numpy_lacks_is_refused() -> None:
    refusal("key_probe", metadata("F8_E4M3"))


@pytest.mark.parametrize("target", ["clip", "probe", "keyed", "key_probe"])
@pytest.mark.parametrize(
    "shape", [[0, 2**62], [0, 2**63], [0, 2**64 - 1], [2**62, 0, 2**62], [1] * 65, [-1], [1.0], ["1"]]
)
def test_shapes_that_no_array_can_have_are_refused(target: str, shape: list[Any]) -> None:
    """Beside a zero any size agrees with no bytes; NumPy then raised a ValueError."""
    refusal(target, tensor_file({"clip": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))
    refusal("folder", b"w" + tensor_file({"x": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}))


def test_a_tensor_written_as_a_list_is_refused() -> None:
    """The library takes a list for an object; our own reader of the header did not."""
    for target in ("clip", "probe", "keyed", "key_probe"):
        refusal(target, tensor_file({"clip": ["U8", [1], [0, 1]]}, b"a"))


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<Q", 100 * 10**9) + b"{}",
        struct.pack("<Q", 2**64 - 1) + b"{}",
        tensor_file({"clip": {"dtype": "U8", "shape": [10**11], "data_offsets": [0, 10**11]}}, b"a"),
        tensor_file(b'{"\xff": 1}'),
        tensor_file(b"[" * 5000 + b"]" * 5000),
        tensor_file([]),
        tensor_file({"clip": 1}),
        tensor_file(
            {
                "a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
                "b": {"dtype": "U8", "shape": [4], "data_offsets": [2, 6]},
            },
            b"abcdef",
        ),
    ],
    ids=["100 GB", "2^64", "claims", "not UTF-8", "nested", "list", "number", "overlap"],
)
def test_headers_that_do_not_hold_are_refused(data: bytes) -> None:
    for target in ("clip", "probe", "keyed", "key_probe"):
        refusal(target, data)
    refusal("folder", b"w" + data)


def test_a_header_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a.lcve"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", inputs.MAX_HEADER_BYTES + 1) + b"{")
        file.truncate(2**30)
    with pytest.raises(EncryptedClipError, match="header of"):
        read_clip_file(path)
