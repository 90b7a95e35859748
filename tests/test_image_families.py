"""Image models of every class that is read, in sizes of no oracle: the same answers as transformers, in float64."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.image_families import IMAGE_FAMILIES
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from tests.support.image_models import CASES, save_image_model

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("old_names", [True, False], ids=["names of version 4", "names of version 5"])
@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_transformers(tmp_path: Path, case: str, old_names: bool) -> None:
    checkpoint = load_checkpoint(save_image_model(tmp_path, case, old_names=old_names))
    geometry = checkpoint.model.config.geometry
    pictures = np.random.default_rng(1).integers(0, 256, (2, *geometry.clip_shape), np.uint8)
    reference = reference_for(checkpoint)
    assert reference.name.startswith("transformers")
    expected = reference.logits(pictures)
    found = BuiltinReference(checkpoint.model).logits(pictures)
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()
    assert np.abs(expected[0] - expected[1]).max() > 1e-3 * np.abs(expected).max()


TOKENS = ["vit", "deit with teacher", "ijepa", "beit", "beit, class token", "dinov2", "dinov3", "clip", "siglip"]
TOKENS += ["siglip tower", "siglip2 whole", "clip whole"]


@pytest.mark.parametrize("case", TOKENS)
def test_tokens_are_those_of_transformers(tmp_path: Path, case: str) -> None:
    """Those of CLIP's vector are normalised, which its last_hidden_state is not."""
    folder = save_image_model(tmp_path, case)
    checkpoint = load_checkpoint(folder, CheckpointOptions(output=OutputChoice.TOKENS))
    config = checkpoint.model.config
    pictures = np.random.default_rng(1).integers(0, 256, (1, *config.geometry.clip_shape), np.uint8)
    reference = reference_for(checkpoint)
    assert reference.name.startswith("built-in" if case == "clip whole" else "transformers")
    expected = reference.logits(pictures)
    assert expected.shape == (1, config.tokens, config.width)
    found = BuiltinReference(checkpoint.model).logits(pictures)
    assert np.abs(found - expected).max() < 1e-12 * np.abs(expected).max()


RESIZED = [
    (case, sides)
    for case in ("dinov2", "dinov2 tower", "dinov2 with registers", "dinov3", "siglip2", "siglip2 tower")
    for sides in ((1, 1), (4, 4), (7, 7), (3, 5))
]
"""Sizes in patches; tables are of 3 x 3 or 4 x 4."""


@pytest.mark.parametrize(("case", "sides"), RESIZED)
def test_tables_fit_other_sizes_as_in_transformers(tmp_path: Path, case: str, sides: tuple[int, int]) -> None:
    """The processor of the folder states the size. Their code interpolates in float32 also in a float64 model."""
    patch = json.loads((save_image_model(tmp_path, case) / "config.json").read_text())
    patch = {**patch, **patch.get("vision_config", {})}["patch_size"]
    size = {"height": sides[0] * patch, "width": sides[1] * patch}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.model.config.geometry.grid == (1, *sides)
    assert not any("size" in note for note in checkpoint.notes)
    pictures = np.random.default_rng(1).integers(0, 256, (1, *checkpoint.model.config.geometry.clip_shape), np.uint8)
    expected = reference_for(checkpoint).logits(pictures)
    found = BuiltinReference(checkpoint.model).logits(pictures)
    assert np.abs(found - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("case", ["dinov2", "siglip2"])
def test_a_size_can_be_chosen_or_is_an_assumption(tmp_path: Path, case: str) -> None:
    folder = save_image_model(tmp_path, case)
    assumed = load_checkpoint(folder)
    assert any(note.startswith("size: 24 x 24") or note.startswith("size: 12 x 12") for note in assumed.notes)
    chosen = load_checkpoint(folder, CheckpointOptions(size=32))
    assert chosen.model.config.geometry.height == 32
    assert not any(note.startswith("size:") for note in chosen.notes)


def test_positions_of_other_families_are_not_interpolated(tmp_path: Path) -> None:
    folder = save_image_model(tmp_path, "vit")
    with pytest.raises(CheckpointError, match="--size 32, the folder says 16; positions are not interpolated"):
        load_checkpoint(folder, CheckpointOptions(size=32))


def test_a_table_that_is_not_square_is_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_image_model(tmp_path, "dinov2")
    weights = load_file(folder / "model.safetensors")
    name = "dinov2.embeddings.position_embeddings"
    save_file({**weights, name: weights[name][:, :-1]}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="8 positions, which are not those of a square image"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("deit with teacher", "cls_classifier.bias"),
        ("siglip tower", "vision_model.head.attention.in_proj_bias"),
        ("siglip2", "vision_model.embeddings.patch_embedding.weight"),
        ("beit", "beit.encoder.layer.0.attention.attention.relative_position_bias.relative_position_bias_table"),
        ("clip whole", "visual_projection.weight"),
        ("dinov3", "layer.1.attention.q_proj.bias"),
    ],
)
def test_a_weight_that_is_missing_is_named(tmp_path: Path, case: str, name: str) -> None:
    from safetensors.numpy import load_file, save_file

    folder = save_image_model(tmp_path, case)
    weights = load_file(folder / "model.safetensors")
    full = next(key for key in weights if key.endswith(name.removeprefix("vision_model.")))
    save_file({key: array for key, array in weights.items() if key != full}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"missing.*{re.escape(full.rsplit('.', 2)[0])}"):
        load_checkpoint(folder)
    save_file({**weights, "text_encoder.weight": weights[full]}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected text_encoder\.weight"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("case", "changes", "message"),
    [
        ("siglip tower", {"vision_use_head": False}, "no pooled vector"),
        ("beit", {"use_shared_relative_position_bias": True}, "are not supported together"),
        ("beit, table", {"image_size": [8, 32]}, "as if they were those of a square"),
        ("beit", {"layer_scale_init_value": "much"}, "layer_scale_init_value"),
        ("dinov2 with registers", {"num_register_tokens": -1}, "num_register_tokens"),
        ("dinov2", {"mlp_ratio": True}, "mlp_ratio"),
        ("clip", {"vision_config": 3}, "expected an object for vision_config"),
        ("dinov3", {"rope_theta": "100"}, "rope_theta"),
    ],
)
def test_settings_that_make_no_model_are_named(
    tmp_path: Path, case: str, changes: dict[str, Any], message: str
) -> None:
    place = save_image_model(tmp_path, case) / "config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **changes}))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("model_type", IMAGE_FAMILIES)
def test_defaults_are_those_of_transformers(model_type: str) -> None:
    """A configuration on a hub may have little more than its model type."""
    family = IMAGE_FAMILIES[model_type]
    for name in family.architectures:
        config = getattr(transformers, name).config_class()
        config = getattr(config, "vision_config", config)
        known = {setting: getattr(config, setting) for setting in family.defaults if hasattr(config, setting)}
        assert known == {setting: family.defaults[setting] for setting in known}
        assert set(family.defaults) - set(known) <= {"qkv_bias", "num_register_tokens"}
