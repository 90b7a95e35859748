"""Folders of timm: plain vision transformers, EVA-02, Perception Encoder and DINOv3, against timm itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions, Client, ExportOptions, PlainClip, SecurityKey, export, open_session
from lcve_deploy.clips import Layout
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.checkpoints.timm import _heads
from lcve_deploy.exporters.checkpoints.timm_families import find_architecture
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.model.config import Activation
from lcve_deploy.model.preprocess import Resample
from tests.conftest import ORACLE

FOLDERS = ORACLE / "timm"
EXPECTED: dict[str, Any] = json.loads((FOLDERS / "expected.json").read_text())


def copied(tmp_path: Path, name: str, **changes: Any) -> Path:
    """A copy of a folder with changes to its config.json; None takes an entry away."""
    path = Path(shutil.copytree(FOLDERS / name, tmp_path / name))
    settings = {**json.loads((path / "config.json").read_text()), **changes}
    (path / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return path


def cfg(name: str, **changes: Any) -> dict[str, Any]:
    settings: dict[str, Any] = json.loads((FOLDERS / name / "config.json").read_text())
    return {**settings["pretrained_cfg"], **changes}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_imported_folder_computes_what_timm_does(name: str) -> None:
    checkpoint = load_checkpoint(FOLDERS / name)
    assert isinstance(reference_for(checkpoint), BuiltinReference)
    logits = BuiltinReference(checkpoint.model).logits(np.load(FOLDERS / name / "image.npy")[None, None])[0]
    np.testing.assert_allclose(logits, EXPECTED[name]["logits"], atol=2e-6)


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("name", EXPECTED)
def test_an_exported_folder_answers_an_encrypted_picture(
    tmp_path: Path, key: SecurityKey, name: str, layout: Layout
) -> None:
    export(FOLDERS / name, tmp_path / "service", key=key, options=ExportOptions(layout=layout))
    client = Client.open(tmp_path / "service/client", key)
    encrypted = client.encrypt(PlainClip(values=np.load(FOLDERS / name / "image.npy")[None, None]))
    logits = client.plain_order(open_session(tmp_path / "service/server").run(encrypted))[0]
    np.testing.assert_allclose(logits, EXPECTED[name]["logits"], atol=1e-4 * np.abs(EXPECTED[name]["logits"]).max())


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("eva02_large_patch14_448", True),
        ("eva02_base_patch16_clip_224", True),
        ("eva02_enormous_patch14_clip_224", False),
        ("vit_pe_spatial_gigantic_patch14_448", True),
        ("vit_small_patch16_rope_mixed_224", False),
        ("vit_7b_patch16_dinov3", False),
        ("vit_base_patch16_224", True),
        ("vit_base_patch16_224.augreg", False),
        ("vit_base_patch16_rpn_224", False),  # its names are those of others, and its norms are elsewhere
        ("vit_so400m_patch14_siglip_gap_384", True),
        ("resnet50", False),
    ],
)
def test_architectures_have_a_row_by_their_whole_name(name: str, known: bool) -> None:
    assert (find_architecture(name) is not None) == known


@pytest.mark.parametrize(
    ("architecture", "heads", "activation"),
    [
        ("vit_small_patch16_224", 6, Activation.GELU),
        ("vit_base_patch16_gap_224", 16, Activation.GELU),
        ("vit_base_patch16_plus_240", 14, Activation.GELU),
        ("vit_huge_patch14_clip_quickgelu_224", 16, Activation.QUICK_GELU),
        ("vit_so400m_patch14_siglip_224", 16, Activation.GELU),
        ("vit_so400m_patch16_siglip_256", 16, Activation.GELU_TANH),
        ("vit_giantopt_patch16_siglip_256", 16, Activation.GELU_TANH),
        ("vit_giant_patch14_dinov2", 24, Activation.GELU),
    ],
)
def test_plain_transformers_have_what_their_weights_do_not_show(
    architecture: str, heads: int, activation: Activation
) -> None:
    widths = {"small": 384, "base": 768, "plus": 896, "huge": 1280, "so400m": 1152, "giantopt": 1536, "giant": 1536}
    width = [widths[word] for word in architecture.split("_") if word in widths][-1]
    row = find_architecture(architecture)
    assert row is not None
    assert (_heads({"architecture": architecture}, row, width), row.activation) == (heads, activation)


def test_pooling_of_a_part_of_the_tokens_is_refused(tmp_path: Path) -> None:
    path = copied(tmp_path, "vit", global_pool="map")
    with pytest.raises(UnsupportedModelError, match="a part of the tokens"):
        load_checkpoint(path)
    with pytest.raises(UnsupportedModelError, match="the pooling '' is not supported"):
        load_checkpoint(copied(tmp_path / "more", "vit", global_pool=None))


def test_pictures_are_resized_as_timm_does(tmp_path: Path) -> None:
    stated = load_checkpoint(FOLDERS / "eva02").preprocessing
    assert stated.framing == Framing(short_side=62, resample=Resample.BICUBIC)  # 56 / 0.9, rounded down
    squashed = copied(tmp_path, "eva02", pretrained_cfg=cfg("eva02", crop_mode="squash", interpolation="bilinear"))
    assert load_checkpoint(squashed).preprocessing.framing == Framing(size=(62, 62), resample=Resample.BILINEAR)


def test_class_names_are_read(tmp_path: Path) -> None:
    assert load_checkpoint(copied(tmp_path, "eva02", label_names=list("abcde"))).classes == tuple("abcde")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "an architecture": ({"architecture": "resnet50"}, "architecture 'resnet50' is not supported"),
    "an argument": ({"model_args": {"rope_temperature": 100}}, "rope_temperature"),
    "a pooling": ({"global_pool": "avgmax", "model_args": {"num_heads": 3}}, "avgmax"),
    "no mean": ({"pretrained_cfg": {"input_size": [3, 56, 56]}}, "has no mean and std"),
    "a border": ({"pretrained_cfg": cfg("eva02", crop_mode="border")}, "border"),
    "a share": ({"pretrained_cfg": cfg("eva02", crop_pct=2)}, "crop_pct from 0 to 1"),
    "another size": ({"model_args": {"img_size": 70, "num_heads": 3}}, r"pos_embed: shape \[1, 17, 48\]"),
    "no size": ({"model_args": {}, "pretrained_cfg": cfg("eva02", input_size=None)}, "one or two sizes for img_size"),
    "another number of heads": ({"model_args": {"num_heads": 5}}, "heads must divide the width"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_timm_as_released_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises((CheckpointError, UnsupportedModelError), match=message):
        load_checkpoint(copied(tmp_path, "eva02", **changes))


def test_only_a_model_without_a_table_takes_another_size() -> None:
    options = CheckpointOptions(size=96)
    assert load_checkpoint(FOLDERS / "dinov3", options).model.config.geometry.height == 96
    with pytest.raises(CheckpointError, match="takes pictures of 56 x 56"):
        load_checkpoint(FOLDERS / "eva02", options)


def test_what_transformers_writes_of_a_model_of_timm_is_read_alike(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = copied(tmp_path, "eva02", model_type="timm_wrapper", architectures=["TimmWrapperForImageClassification"])
    weights = {f"timm_model.{name}": array for name, array in load_file(path / "model.safetensors").items()}
    save_file(weights, path / "model.safetensors")
    model = load_checkpoint(path).model
    logits = BuiltinReference(model).logits(np.load(path / "image.npy")[None, None])[0]
    np.testing.assert_allclose(logits, EXPECTED["eva02"]["logits"], atol=2e-6)
