"""Rows of two artifacts are paired by all of their bits, and by nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from lcve_deploy.artifact import match_rows
from lcve_deploy.errors import ArtifactError

Tensors = dict[str, np.ndarray]

CUBES, VALUES, CLASSES, PREFIX = 150, 12, 7, 2
FIRST_FLOATS = 64  # of a row, by which pairs are looked for at first


def model(width: int = 5, prefix: int = PREFIX) -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "cube_embedding.weight": rng.normal(size=(VALUES, width)).astype(np.float32),
        "positional_encoding": rng.normal(size=(prefix + CUBES, width)).astype(np.float32),
        "head.weight": rng.normal(size=(width, CLASSES)).astype(np.float32),
        "head.bias": rng.normal(size=CLASSES).astype(np.float32),
    }


def orders(seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.permutation(CUBES), rng.permutation(VALUES), rng.permutation(CLASSES)


def moved(tensors: Tensors, prefix: int = PREFIX) -> Tensors:
    cubes, values, labels = orders()
    table = tensors["positional_encoding"]
    rotated = {
        "cube_embedding.weight": tensors["cube_embedding.weight"][values],
        "positional_encoding": np.concatenate([table[:prefix], table[prefix:][cubes]]),
        "head.weight": tensors["head.weight"][:, labels],
        "head.bias": tensors["head.bias"][labels],
    }
    if "readout.index" in tensors:
        index = int(tensors["readout.index"]) - prefix
        rotated["readout.index"] = np.array(prefix + int(np.flatnonzero(cubes == index)[0]))
    return rotated


def assert_related(old: Tensors) -> None:
    relation = match_rows(old, moved(old), cubes=CUBES)
    for found, expected in zip((relation.cubes, relation.values, relation.labels), orders(), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("width", [1, 2, 3, 5, FIRST_FLOATS - 1, FIRST_FLOATS, FIRST_FLOATS + 1, 200])
def test_every_row_is_found(width: int) -> None:
    assert_related(model(width))


@pytest.mark.parametrize("name", ["cube_embedding.weight", "positional_encoding", "head.weight"])
@pytest.mark.parametrize("place", [FIRST_FLOATS, 129, -1])
def test_rows_that_begin_alike_are_told_apart_by_what_follows(name: str, place: int) -> None:
    tensors = model(width=130)
    rows = tensors[name].T if name == "head.weight" else tensors[name]
    rows[:] = rows[0]
    rows[:, place] = np.arange(len(rows))
    tensors["head.bias"][:] = 0
    assert_related(tensors)


def test_classes_with_equal_weights_are_told_apart_by_their_bias() -> None:
    tensors = model()
    tensors["head.weight"][:] = tensors["head.weight"][:, :1]
    assert_related(tensors)


def test_classes_with_equal_biases_are_told_apart_by_their_weights() -> None:
    tensors = model()
    tensors["head.bias"][:] = 1
    assert_related(tensors)


@pytest.mark.parametrize("token", [PREFIX, PREFIX + 77, PREFIX + CUBES - 1])
def test_among_equal_rows_the_token_that_is_read_is_matched_with_itself(token: int) -> None:
    old = model() | {"readout.index": np.array(token)}
    old["positional_encoding"][PREFIX:] = 1
    new = moved(old)
    relation = match_rows(old, new, cubes=CUBES)
    assert relation.cubes[int(new["readout.index"]) - PREFIX] == token - PREFIX
    assert sorted(relation.cubes.tolist()) == list(range(CUBES))


def _swap_prefix_rows(new: Tensors) -> None:
    new["positional_encoding"][[0, 1]] = new["positional_encoding"][[1, 0]]


def _swap_prefix_with_a_cube(new: Tensors) -> None:
    new["positional_encoding"][[1, 9]] = new["positional_encoding"][[9, 1]]


def _add(name: str, *place: int) -> Callable[[Tensors], None]:
    def change(new: Tensors) -> None:
        new[name][place] += 1

    return change


def _repeat_a_row(new: Tensors) -> None:
    new["positional_encoding"][PREFIX] = new["positional_encoding"][PREFIX + 1]


def _bias_of_another(new: Tensors) -> None:
    new["head.bias"][[0, 1]] = new["head.bias"][[1, 0]]


OF_ANOTHER_MODEL: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "first prefix row": (_add("positional_encoding", 0, 0), "positional_encoding"),
    "last prefix row": (_add("positional_encoding", PREFIX - 1, 4), "positional_encoding"),
    "prefix rows swapped": (_swap_prefix_rows, "positional_encoding"),
    "prefix row and cube row swapped": (_swap_prefix_with_a_cube, "positional_encoding"),
    "first cube row": (_add("positional_encoding", PREFIX, 0), "positional_encoding"),
    "last cube row": (_add("positional_encoding", PREFIX + CUBES - 1, 4), "positional_encoding"),
    "a cube row twice": (_repeat_a_row, "positional_encoding"),
    "embedding": (_add("cube_embedding.weight", VALUES - 1, 4), "cube_embedding.weight"),
    "classifier": (_add("head.weight", 4, CLASSES - 1), "head"),
    "bias": (_add("head.bias", CLASSES - 1), "head"),
    "biases swapped": (_bias_of_another, "head"),
}


@pytest.mark.parametrize(("change", "name"), OF_ANOTHER_MODEL.values(), ids=OF_ANOTHER_MODEL)
def test_rows_of_another_model_are_refused(change: Callable[[Tensors], None], name: str) -> None:
    old = model()
    new = moved(old)
    change(new)
    with pytest.raises(ArtifactError, match=f"rows of {name} are not the same rows"):
        match_rows(old, new, cubes=CUBES)


@pytest.mark.parametrize("place", [FIRST_FLOATS, 199])
@pytest.mark.parametrize("name", ["cube_embedding.weight", "positional_encoding", "head.weight"])
def test_a_difference_at_the_end_of_a_long_row_is_seen(name: str, place: int) -> None:
    old = model(width=200)
    new = moved(old)
    (new[name].T if name == "head.weight" else new[name])[3, place] += 1
    with pytest.raises(ArtifactError, match="are not the same rows"):
        match_rows(old, new, cubes=CUBES)


@pytest.mark.parametrize("index", [1, PREFIX + 5])
def test_a_token_that_is_read_and_a_prefix_row_keep_their_places(index: int) -> None:
    old = model() | {"readout.index": np.array(0)}
    new = moved(model()) | {"readout.index": np.array(index)}
    with pytest.raises(ArtifactError, match="rows of positional_encoding"):
        match_rows(old, new, cubes=CUBES)


@pytest.mark.parametrize("name", ["head.bias", "positional_encoding"])
def test_another_type_is_another_model(name: str) -> None:
    old = model()
    with pytest.raises(ArtifactError, match=f"{name} missing or of different shape"):
        match_rows(old, moved(old) | {name: moved(old)[name].astype(np.float64)}, cubes=CUBES)


def test_every_row_is_compared_and_not_only_the_first_ones() -> None:
    """A changed row nearly always changes the order in which rows are paired; a few of these changes do not."""
    old = model()
    new = moved(old)
    for row in range(PREFIX + 64, PREFIX + CUBES):
        for step in range(1, 21):
            changed = {**new, "positional_encoding": new["positional_encoding"].copy()}
            changed["positional_encoding"][row, 2] += step
            with pytest.raises(ArtifactError, match="rows of positional_encoding"):
                match_rows(old, changed, cubes=CUBES)


def test_without_prefix_rows_every_row_is_a_cube() -> None:
    old = model(prefix=0)
    relation = match_rows(old, moved(old, prefix=0), cubes=CUBES)
    np.testing.assert_array_equal(relation.cubes, orders()[0])


@pytest.mark.parametrize("side", ["old", "new"])
def test_a_tensor_that_one_side_has_alone_is_named(side: str) -> None:
    more = {"readout.index": np.array(0)}
    old, new = model(), moved(model())
    with pytest.raises(ArtifactError, match=r"different models: readout\.index missing"):
        match_rows(old | more if side == "old" else old, new | more if side == "new" else new, cubes=CUBES)
