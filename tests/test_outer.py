"""The outer weights of a checkpoint: values in the order of the keyed tensors, and what is refused."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.outer import load_outer_weights
from lcve_deploy.exporters.checkpoints.positions import mvd_table, videomae_table
from lcve_deploy.geometry import ClipGeometry
from tests.conftest import ORACLE

GEOMETRY = ClipGeometry.parse("4x16x16x3/2x8x4")  # the sides of a cube differ, so that no two can be exchanged
WIDTH, CLASSES = 16, 5
HUGGING_FACE = {
    "patch_embed.proj.weight": "videomae.embeddings.patch_embeddings.projection.weight",
    "head.weight": "classifier.weight",
    "head.bias": "classifier.bias",
}


def official(**changes: Any) -> dict[str, torch.Tensor]:
    """Outer weights by their official names, all values different; None leaves one out."""
    shapes = {
        "patch_embed.proj.weight": (WIDTH, GEOMETRY.channels, *GEOMETRY.cube),
        "pos_embed": (1, GEOMETRY.cubes, WIDTH),
        "head.weight": (CLASSES, WIDTH),
        "head.bias": (CLASSES,),
    }
    generator = torch.Generator().manual_seed(7)
    weights = {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor for name, tensor in (weights | changes).items() if tensor is not None}


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def folder(place: Path) -> Path:
    """A Hugging Face folder with these weights; positions are computed there."""
    place.mkdir()
    weights = official(pos_embed=None)
    save_file({HUGGING_FACE[name]: tensor for name, tensor in weights.items()}, place / "model.safetensors")
    return place


def test_every_value_is_where_the_keyed_tensors_have_it(tmp_path: Path) -> None:
    weights = official()
    outer = load_outer_weights(saved(tmp_path, {"model": weights}), GEOMETRY)
    columns = outer["cube_embedding.weight"].reshape(*GEOMETRY.cube, GEOMETRY.channels, WIDTH)
    np.testing.assert_array_equal(np.moveaxis(columns, (4, 3), (0, 1)), weights["patch_embed.proj.weight"].numpy())
    np.testing.assert_array_equal(outer["positional_encoding"], weights["pos_embed"][0].numpy())
    np.testing.assert_array_equal(outer["head.weight"], weights["head.weight"].numpy().T)
    np.testing.assert_array_equal(outer["head.bias"], weights["head.bias"].numpy())


def test_a_folder_has_the_same_weights(tmp_path: Path) -> None:
    outer = load_outer_weights(folder(tmp_path / "model"), GEOMETRY)
    expected = load_outer_weights(saved(tmp_path, official(pos_embed=None)), GEOMETRY)
    assert outer.keys() == expected.keys()
    for name, array in outer.items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        ({}, videomae_table),
        ({"use_cls_token": False}, mvd_table),
        ({"use_cls_token": False, "delete_head": False}, videomae_table),
    ],
    ids=["no arguments", "those of MVD", "those of two"],
)
def test_positions_that_are_not_saved_are_those_of_the_codebase(
    tmp_path: Path, arguments: dict[str, Any], table: Any
) -> None:
    path = saved(tmp_path, {"model": official(pos_embed=None), "args": argparse.Namespace(**arguments)})
    outer = load_outer_weights(path, GEOMETRY)
    np.testing.assert_array_equal(outer["positional_encoding"], table(GEOMETRY, WIDTH))


@pytest.mark.parametrize("name", ["head.weight", "head.bias"])
def test_half_a_classifier_is_left_out(tmp_path: Path, name: str) -> None:
    outer = load_outer_weights(saved(tmp_path, official(**{name: None})), GEOMETRY)
    assert set(outer) == {"cube_embedding.weight", "positional_encoding"}


def test_a_classifier_with_a_bias_of_another_length_is_left_out(tmp_path: Path) -> None:
    outer = load_outer_weights(saved(tmp_path, official(**{"head.bias": torch.zeros(CLASSES + 1)})), GEOMETRY)
    assert set(outer) == {"cube_embedding.weight", "positional_encoding"}


@pytest.mark.parametrize("name", ["patch_embed.proj.weight", "pos_embed", "head.weight", "head.bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, name: str, value: float) -> None:
    weights = official()
    weights[name].view(-1)[-1] = value
    with pytest.raises(CheckpointError, match="NaN or infinity in: "):
        load_outer_weights(saved(tmp_path, weights), GEOMETRY)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    own = folder(tmp_path / "model")
    (tmp_path / "outside.safetensors").write_bytes((own / "model.safetensors").read_bytes())
    (own / "model.safetensors").unlink()
    (own / "model.safetensors").symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(CheckpointError, match="is a link that leaves the folder"):
        load_outer_weights(own, GEOMETRY)


def test_cubes_of_another_size_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_outer_weights(saved(tmp_path, official()), ClipGeometry.parse("4x16x16x3/2x4x8"))
    assert str(caught.value) == (
        "expected a reference with cubes of [channels, t, h, w] = [3, 2, 4, 8] like the artifact, received [3, 2, 8, 4]"
    )


@pytest.mark.parametrize("name", ["pos_embed", "head.weight"])
def test_rows_of_another_width_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match=r"rows of the embedding's width 16, received \[3, 15\]"):
        load_outer_weights(saved(tmp_path, official(**{name: torch.zeros(3, WIDTH - 1)})), GEOMETRY)


def test_a_file_without_an_embedding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no cube embedding under a known name"):
        load_outer_weights(saved(tmp_path, official(**{"patch_embed.proj.weight": None})), GEOMETRY)


@pytest.mark.parametrize(
    ("folder_name", "geometry", "width"), [("vjepa2", "8x32x32x3/2x8x8", 48), ("vit", "1x32x32x3/1x8x8", 48)]
)
def test_folders_of_newer_families_have_outer_weights(folder_name: str, geometry: str, width: int) -> None:
    model = load_checkpoint(ORACLE / "folders" / folder_name).model
    outer = load_outer_weights(ORACLE / "folders" / folder_name, ClipGeometry.parse(geometry))
    np.testing.assert_array_equal(outer["cube_embedding.weight"].T, model.weights["cube_embedding.weight"])
    np.testing.assert_array_equal(outer["head.weight"].T, model.weights["head.weight"])
    assert ("positional_encoding" in outer) == model.config.positions
    assert outer["cube_embedding.weight"].shape[1] == width
