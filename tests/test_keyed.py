"""Keyed tensors that do not belong to the manifest are refused, each by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import ClipGeometry
from lcve_deploy.artifact import check_keyed, read_keyed
from lcve_deploy.artifact.keyed import KEYED_TENSORS, write_keyed
from lcve_deploy.errors import ArtifactError

GEOMETRY = ClipGeometry.parse("4x8x8x3/2x4x4")  # 8 cubes of 96 values
WIDTH, CLASSES = 6, 5


def tensors(prefix: int = 1) -> dict[str, np.ndarray]:
    shapes = {
        "cube_embedding.weight": (96, WIDTH),
        "positional_encoding": (prefix + 8, WIDTH),
        "head.weight": (WIDTH, CLASSES),
        "head.bias": (CLASSES,),
    }
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()} | {"readout.index": np.array(0)}


def without(name: str) -> dict[str, np.ndarray]:
    return {other: tensor for other, tensor in tensors().items() if other != name}


@pytest.mark.parametrize("prefix", [0, 1, 2])
@pytest.mark.parametrize("last", [False, True])
def test_tensors_that_fit(prefix: int, last: bool) -> None:
    index = prefix + 7 if last else 0
    check_keyed(tensors(prefix) | {"readout.index": np.array(index)}, GEOMETRY, CLASSES)


def test_a_model_that_reads_the_mean_has_no_readout_index() -> None:
    check_keyed(without("readout.index"), GEOMETRY, CLASSES)


@pytest.mark.parametrize("name", KEYED_TENSORS)
def test_every_shape_and_type_is_checked(name: str) -> None:
    right = tensors()[name]
    for wrong in (right[None], right.astype(np.float16), np.zeros((*right.shape, 1), right.dtype)):
        with pytest.raises(ArtifactError, match=f"do not match the manifest: .*{name} is "):
            check_keyed(tensors() | {name: wrong}, GEOMETRY, CLASSES)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cube_embedding.weight", (95, WIDTH)),
        ("positional_encoding", (7, WIDTH)),
        ("positional_encoding", (9, WIDTH + 1)),
        ("positional_encoding", ()),
        ("cube_embedding.weight", ()),
        ("head.weight", (WIDTH, CLASSES + 1)),
        ("head.bias", (CLASSES - 1,)),
    ],
)
def test_a_shape_that_is_off_by_one_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ArtifactError, match="do not match the manifest"):
        check_keyed(tensors() | {name: np.zeros(shape, np.float32)}, GEOMETRY, CLASSES)


@pytest.mark.parametrize("index", [-1, 9, 1000])
def test_a_readout_is_a_token(index: int) -> None:
    with pytest.raises(ArtifactError, match=f"readout.index is {index}, expected a token index below 9"):
        check_keyed(tensors() | {"readout.index": np.array(index)}, GEOMETRY, CLASSES)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write_keyed(tmp_path, tensors())
    read = read_keyed(tmp_path)
    assert set(read) == set(KEYED_TENSORS)
    for name, tensor in tensors().items():
        assert (read[name].shape, read[name].dtype) == (tensor.shape, tensor.dtype)


@pytest.mark.parametrize("name", [name for name in KEYED_TENSORS if name != "readout.index"])
def test_a_tensor_that_is_missing_is_refused(tmp_path: Path, name: str) -> None:
    write_keyed(tmp_path, without(name))
    with pytest.raises(ArtifactError, match=r"has the tensors .*, expected cube_embedding"):
        read_keyed(tmp_path)


def test_a_tensor_too_many_is_refused(tmp_path: Path) -> None:
    write_keyed(tmp_path, tensors() | {"more": np.zeros(1)})
    with pytest.raises(ArtifactError, match="more"):
        read_keyed(tmp_path)


def test_what_was_expected_is_said() -> None:
    wrong = {"head.weight": np.zeros((1, 2), np.float16)}
    with pytest.raises(ArtifactError, match=r"head\.weight is float16 \[1, 2\], expected float32 \[6, 5\]$"):
        check_keyed(tensors() | wrong, GEOMETRY, CLASSES)


@pytest.mark.parametrize(("shape", "width"), [((), 0), ((96,), 96), ((1, 96, 4), 4)])
def test_an_embedding_of_other_axes_is_refused_with_its_width(shape: tuple[int, ...], width: int) -> None:
    with pytest.raises(ArtifactError, match=rf"cube_embedding\.weight is .*, expected float32 \[96, {width}\]"):
        check_keyed(tensors() | {"cube_embedding.weight": np.zeros(shape, np.float32)}, GEOMETRY, CLASSES)


def test_a_model_of_one_token_has_its_readout_at_zero() -> None:
    geometry = ClipGeometry.parse("2x4x4x3/2x4x4")
    alone = without("readout.index") | {"positional_encoding": np.zeros((1, WIDTH), np.float32)}
    check_keyed(alone, geometry, CLASSES)
    check_keyed(alone | {"readout.index": np.array(0)}, geometry, CLASSES)
