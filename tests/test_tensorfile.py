"""Safetensors files by their bytes: tensors are found where the library has put them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lcve_deploy.artifact.tensorfile import map_tensors, replace_tensors, tensor_ranges, write_parts
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.reading import MAX_HEADER_BYTES

TYPES = ("<f8", "<f4", "<f2", "<i8", "<i4", "u1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {f"of {kind}": np.arange(6, dtype=kind).reshape(2, 3) for kind in TYPES} | {"number": np.array(7)}
    save_file(tensors, tmp_path / "x.safetensors", {"a note": "text"})
    return tmp_path / "x.safetensors"


def test_places_are_those_of_the_bytes(file: Path) -> None:
    content, tensors, places = file.read_bytes(), load_file(file), tensor_ranges(file)
    assert places.keys() == tensors.keys()
    for name, (first, length) in places.items():
        assert content[first : first + length] == tensors[name].tobytes()
    assert max(first + length for first, length in places.values()) == len(content)


def test_mapped_tensors_are_those_of_the_library(file: Path) -> None:
    expected = load_file(file)
    mapped = map_tensors(file)
    assert mapped.keys() == expected.keys()
    for name, tensor in mapped.items():
        np.testing.assert_array_equal(tensor, expected[name], strict=True)
        assert not tensor.flags.writeable


def test_a_file_with_its_own_tensors_is_the_same_file(file: Path, tmp_path: Path) -> None:
    write_parts(tmp_path / "again", replace_tensors(file, load_file(file)))
    assert (tmp_path / "again").read_bytes() == file.read_bytes()


def test_other_values_take_the_same_places(file: Path, tmp_path: Path) -> None:
    others = {name: tensor + tensor.dtype.type(1) for name, tensor in load_file(file).items()}
    turned = {name: np.asfortranarray(tensor) for name, tensor in others.items()}
    write_parts(tmp_path / "other", replace_tensors(file, turned))
    assert tensor_ranges(tmp_path / "other") == tensor_ranges(file)
    for name, tensor in load_file(tmp_path / "other").items():
        np.testing.assert_array_equal(tensor, others[name], strict=True)


@pytest.mark.parametrize("change", ["missing", "too many", "too long"])
def test_tensors_that_do_not_fill_the_places_are_refused(file: Path, change: str) -> None:
    tensors = load_file(file)
    if change == "missing":
        del tensors["number"]
    else:
        tensors["number" if change == "too long" else "another"] = np.zeros(2)
    with pytest.raises(ArtifactError, match=r"expected the tensors .*number.* with the sizes in .*, received others"):
        replace_tensors(file, tensors)


def test_types_that_no_artifact_has_are_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2, np.int16)}, tmp_path / "x.safetensors")
    with pytest.raises(ArtifactError, match=r"x\.safetensors cannot be read"):
        map_tensors(tmp_path / "x.safetensors")


def test_what_is_no_such_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"x\.safetensors cannot be read"):
        map_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"text")
    with pytest.raises(ArtifactError, match="safetensors"):
        map_tensors(tmp_path / "x.safetensors")


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    save_file({"x": np.zeros(2)}, tmp_path / "x.safetensors", {"more": "x" * MAX_HEADER_BYTES})
    with pytest.raises(ArtifactError, match="header"):
        map_tensors(tmp_path / "x.safetensors")
