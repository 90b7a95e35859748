"""Models of random settings and random weights, of every class that is read: the answers of transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions, Client, ExportOptions, PlainClip, SecurityKey, export, open_session
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.model.transformer import IMAGENET
from tests.support.image_models import save_model
from tests.support.random_models import ARCHITECTURES, random_settings

pytest.importorskip("transformers")

SEEDS = range(3)
DTYPES = ("float32", "float16", "bfloat16")
ENCRYPTED = ("BeitForImageClassification", "DINOv3ViTModel", "SiglipVisionModel", "VJEPA2ForVideoClassification")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_answers_are_those_of_transformers(tmp_path: Path, architecture: str, seed: int) -> None:
    """Norms without an eps, layer scales of zero and activations of other families are among the settings."""
    settings = random_settings(architecture, seed)
    folder = save_model(tmp_path, architecture, settings, old_names=seed % 2 == 0, dtype=DTYPES[seed % len(DTYPES)])
    checkpoint = load_checkpoint(folder, CheckpointOptions(normalisation=IMAGENET, short_side=64))
    clips = np.random.default_rng(seed).integers(0, 256, (2, *checkpoint.model.config.geometry.clip_shape), np.uint8)
    reference = reference_for(checkpoint)
    assert reference.name.startswith("transformers")
    expected = reference.logits(clips)
    found = BuiltinReference(checkpoint.model).logits(clips)
    assert np.abs(found - expected).max() < 1e-9 * np.abs(expected).max(), settings


TABLES = {
    "Dinov2ForImageClassification": ("position_embeddings", "cls_token"),
    "Siglip2Model": ("position_embedding.weight",),
    "TimesformerForVideoClassification": ("position_embeddings", "time_embeddings", "cls_token"),
}


@pytest.mark.parametrize("shape", [(), (7,), (0, 0), (0, 17, 24), (2, 17, 24)], ids=str)
@pytest.mark.parametrize(("architecture", "end"), [(name, end) for name, ends in TABLES.items() for end in ends])
def test_tables_of_other_shapes_are_one_error(
    tmp_path: Path, architecture: str, end: str, shape: tuple[int, ...]
) -> None:
    from safetensors.numpy import load_file, save_file

    place = save_model(tmp_path, architecture, random_settings(architecture, 0)) / "model.safetensors"
    weights = load_file(place)
    name = next(name for name in weights if name.endswith(end) and "text" not in name)
    save_file({**weights, name: np.zeros(shape, np.float32)}, place)
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path, CheckpointOptions(normalisation=IMAGENET, short_side=64))


@pytest.mark.parametrize("architecture", ENCRYPTED)
def test_encrypted_clips_have_the_same_answers(tmp_path: Path, key: SecurityKey, architecture: str) -> None:
    folder = save_model(tmp_path / "model", architecture, random_settings(architecture, len(SEEDS)))
    plain = CheckpointOptions(normalisation=IMAGENET, short_side=64)
    export(folder, tmp_path / "service", key=key, options=ExportOptions(checkpoint=plain))
    checkpoint = load_checkpoint(folder, plain)
    clips = np.random.default_rng(1).integers(0, 256, (1, *checkpoint.model.config.geometry.clip_shape), np.uint8)
    expected = reference_for(checkpoint).logits(clips)[0]
    client = Client.open(tmp_path / "service/client", key)
    encrypted = client.encrypt(PlainClip(values=clips))
    found = client.plain_order(open_session(tmp_path / "service/server").run(encrypted))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
