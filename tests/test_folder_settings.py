"""Settings of ``config.json`` in unusual places count as in transformers, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from tests.support.image_models import save_image_model

pytest.importorskip("transformers")

RELU = {"hidden_act": "relu"}


def edited(folder: Path, **changes: Any) -> Path:
    """Change the settings of a folder; None takes one away, and an object changes what is inside."""
    path = folder / "config.json"
    path.write_text(json.dumps(merged(json.loads(path.read_text()), changes)))
    return folder


def merged(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    new = {
        name: merged(settings[name], value) if isinstance(value, dict) and name in settings else value
        for name, value in changes.items()
    }
    return {name: value for name, value in {**settings, **new}.items() if value is not None}


def gap(folder: Path) -> float:
    """Largest difference from transformers, relative to its largest answer."""
    checkpoint = load_checkpoint(folder)
    reference = reference_for(checkpoint)
    assert reference.name.startswith("transformers")
    pictures = np.random.default_rng(1).integers(0, 256, (2, *checkpoint.model.config.geometry.clip_shape), np.uint8)
    expected = reference.logits(pictures)
    return float(np.abs(BuiltinReference(checkpoint.model).logits(pictures) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("case", ["clip", "clip whole", "metaclip_2 whole", "siglip", "siglip whole", "siglip2"])
@pytest.mark.parametrize(
    "changes",
    [
        {**RELU, "vision_config": {"hidden_act": None}},
        {"layer_norm_eps": 0.1, "vision_config": {"layer_norm_eps": None}},
        {"vision_config": {"num_labels": 9}},
    ],
    ids=["activation outside", "eps outside", "classes inside"],
)
def test_only_its_section_configures_the_encoder(tmp_path: Path, case: str, changes: dict[str, Any]) -> None:
    assert gap(edited(save_image_model(tmp_path, case), **changes)) < 1e-12


@pytest.mark.parametrize("case", ["clip", "metaclip_2 whole"])
def test_the_old_section_counts_with_its_defaults(tmp_path: Path, case: str) -> None:
    folder = save_image_model(tmp_path, case)
    section = json.loads((folder / "config.json").read_text())["vision_config"]
    old = {name: value for name, value in {**section, **RELU}.items() if name != "layer_norm_eps"}
    assert gap(edited(folder, vision_config_dict=old, vision_config={"layer_norm_eps": 0.1})) < 1e-12


def test_a_missing_section_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected an object for vision_config, received None"):
        load_checkpoint(edited(save_image_model(tmp_path, "clip"), vision_config=None))


def test_a_tower_is_never_taken_for_a_classifier(tmp_path: Path) -> None:
    assert gap(edited(save_image_model(tmp_path, "clip tower"), architectures=None)) < 1e-12
    with pytest.raises(UnsupportedModelError, match="expected CLIPVisionModel or CLIPVisionModelWithProjection"):
        load_checkpoint(edited(tmp_path, architectures=["CLIPForImageClassification"]))
