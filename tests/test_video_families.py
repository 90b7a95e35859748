"""V-JEPA 2 and TimeSformer with joint attention, in shapes that no oracle has, against transformers in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy import CheckpointOptions, ClipGeometry
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from tests.test_oracle_folders import FOLDERS

transformers = pytest.importorskip("transformers")

VJEPA2: dict[str, Any] = {
    "crop_size": 24,
    "patch_size": 8,
    "frames_per_clip": 4,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_pooler_layers": 1,
    "mlp_ratio": 2.5,
    "pred_hidden_size": 8,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
    "initializer_range": 0.3,
    "num_labels": 3,
}
"""Head width 16: a third of it is not even, so columns are left over."""


def save(folder: Path, kind: str, /, **settings: Any) -> Path:

    torch.manual_seed(0)
    config = getattr(transformers, kind.split("For")[0].removesuffix("Model") + "Config")(**settings)
    model = getattr(transformers, kind)(config)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "query_tokens", "cls_token", "embeddings")):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def gap(folder: Path, options: CheckpointOptions | None = None) -> float:
    """The largest difference between transformers and the imported model, of which each computes by itself."""
    checkpoint = load_checkpoint(folder, options)
    clip = np.random.default_rng(1).integers(0, 256, (1, *checkpoint.model.config.geometry.clip_shape), np.uint8)
    reference = reference_for(checkpoint)
    assert reference.name.startswith("transformers")
    return float(np.abs(reference.logits(clip) - BuiltinReference(checkpoint.model).logits(clip)).max())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_size": 36, "num_attention_heads": 3},
        {"hidden_size": 66, "num_attention_heads": 3, "mlp_ratio": 48 / 11},
        {"num_pooler_layers": 0},
        {"num_pooler_layers": 3, "num_hidden_layers": 3, "qkv_bias": False},
        {"tubelet_size": 4, "layer_norm_eps": 1e-3, "hidden_act": "gelu_pytorch_tanh"},
    ],
    ids=str,
)
def test_vjepa2_classifiers_of_other_shapes(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert gap(save(tmp_path / "model", "VJEPA2ForVideoClassification", **{**VJEPA2, **changes})) < 1e-10


def test_a_vjepa2_model_takes_clips_of_another_length(tmp_path: Path) -> None:
    path, options = save(tmp_path / "model", "VJEPA2ForVideoClassification", **VJEPA2), CheckpointOptions(frames=10)
    assert load_checkpoint(path, options).model.config.geometry == ClipGeometry.parse("10x24x24x3/2x8x8")
    assert gap(path, options) < 1e-10
    with pytest.raises(CheckpointError, match="--size 32, the folder says 24"):
        load_checkpoint(path, CheckpointOptions(size=32))


def test_an_encoder_of_vjepa2_gives_the_mean_of_its_tokens(tmp_path: Path) -> None:
    path = save(tmp_path / "model", "VJEPA2Model", **VJEPA2)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.model.config.head, checkpoint.model.config.classes) == (False, 32)
    assert any("mean of the tokens" in note for note in checkpoint.notes)
    tokens = load_checkpoint(path, CheckpointOptions(output=OutputChoice.TOKENS))
    assert not any("mean of the tokens" in note for note in tokens.notes)
    assert gap(path) < 1e-10


def test_weights_that_vjepa2_does_not_use_are_a_list_and_not_leniency(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = save(tmp_path / "model", "VJEPA2ForVideoClassification", **VJEPA2)
    weights = load_file(path / "model.safetensors")
    assert any(name.startswith("vjepa2.predictor.") for name in weights)
    save_file({**weights, "vjepa2.encoder.extra": np.zeros(3, np.float32)}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"unexpected vjepa2\.encoder\.extra"):
        load_checkpoint(path)
    save_file({n: w for n, w in weights.items() if n != "pooler.query_tokens"}, path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing pooler\.query_tokens"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": [24, 24]}, "expected a positive integer for crop_size"),
        ({"mlp_ratio": "4"}, "expected a number from 0 to 1000 for mlp_ratio"),
        ({"num_pooler_layers": -1}, "expected an integer of at least 0 for num_pooler_layers"),
        ({"num_attention_heads": 32}, "even width, received 1"),
    ],
)
def test_settings_of_vjepa2_that_are_invalid_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "model", "VJEPA2ForVideoClassification", **VJEPA2)
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, **changes}))
    with pytest.raises((CheckpointError, UnsupportedModelError), match=message):
        load_checkpoint(path)


TIMESFORMER: dict[str, Any] = {
    "attention_type": "joint_space_time",
    "image_size": 24,
    "patch_size": 8,
    "num_frames": 3,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "initializer_range": 0.3,
    "num_labels": 3,
}


def with_halves(path: Path) -> Path:
    """State the normalisation of a model, which TimeSformer's processor does not have by default."""
    (path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.45] * 3, "image_std": [0.225] * 3, "size": 24, "crop_size": 24})
    )
    return path


@pytest.mark.parametrize("kind", ["TimesformerForVideoClassification", "TimesformerModel"])
@pytest.mark.parametrize("changes", [{}, {"num_frames": 1, "qkv_bias": False}], ids=str)
def test_timesformers_with_joint_attention_of_other_shapes(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    assert gap(with_halves(save(tmp_path / "model", kind, **{**TIMESFORMER, **changes}))) < 1e-10


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("divided_space_time", "divided attention"), ("space_only", "every frame by itself"), ("x", "unknown")],
)
def test_other_attention_of_timesformer_is_refused_with_its_reason(tmp_path: Path, kind: str, reason: str) -> None:
    path = FOLDERS / "timesformer_joint"
    settings = json.loads((path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "attention_type": kind}))
    with pytest.raises(UnsupportedModelError, match=reason):
        load_checkpoint(tmp_path)


def encoder(width: int = 16) -> dict[str, torch.Tensor]:
    """The weights of an official encoder of V-JEPA, whose names are VideoMAE's."""
    names = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight")
    return {f"module.backbone.{name}": torch.zeros(width) for name in names}


PREDICTOR = {"module.backbone.predictor_embed.weight": torch.zeros(4)}
PROBE = {"module.pooler.query_tokens": torch.zeros(4), "module.linear.weight": torch.zeros(4)}


@pytest.mark.parametrize(
    "content",
    [
        {"encoder": encoder(), "predictor": PREDICTOR, "epoch": 3},
        {"target_encoder": encoder(), "encoder": encoder(), "predictor": PREDICTOR},
        {"classifiers": [PROBE, PROBE], "epoch": 1},
        {"classifier": PROBE},
        PROBE,
    ],
    ids=["encoder", "two encoders", "probes", "probe", "flat probe"],
)
def test_official_files_of_vjepa_are_refused_by_what_is_in_them(tmp_path: Path, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "any_name.pt")
    with pytest.raises(UnsupportedModelError, match=r"official file of V-JEPA") as caught:
        load_checkpoint(tmp_path / "any_name.pt")
    assert "VJEPA2ForVideoClassification" in caught.value.hint
