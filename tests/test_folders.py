"""Hugging Face folders as people have them: what other versions of transformers wrote, and the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lcve_deploy import CheckpointOptions, Normalisation
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.model import BuiltinReference

from .test_checkpoints import folder

FAULTS = Path(__file__).parent / "data/faults"
HALVES = CheckpointOptions(normalisation=Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3))


def faults_clip() -> np.ndarray:
    return np.load(FAULTS / "clip8.npy")


def test_the_key_bias_of_transformers_5_12_is_read() -> None:
    model = load_checkpoint(FAULTS / "hf_transformers_5_12", HALVES).model
    expected = np.load(FAULTS / "hf_transformers_5_12_logits.npy").reshape(-1)
    np.testing.assert_allclose(BuiltinReference(model).logits(faults_clip()[None])[0], expected, atol=1e-5)
    source = load_file(FAULTS / "hf_transformers_5_12/model.safetensors")
    for i in range(2):
        parts = [source[f"videomae.encoder.layer.{i}.attention.attention.{n}.bias"] for n in ("query", "key", "value")]
        np.testing.assert_array_equal(model.weights[f"blocks.{i}.attention.qkv.bias"], np.concatenate(parts))
        assert np.abs(parts[1]).max() > 0


RENAMED = (
    ("encoder.layer.", "layers."),
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)


@pytest.mark.parametrize("with_key_bias", [True, False])
def test_biases_under_the_names_of_version_5_are_read_too(tmp_path: Path, with_key_bias: bool) -> None:
    source = {}
    for name, array in load_file(FAULTS / "hf_transformers_5_12/model.safetensors").items():
        renamed = name
        for old, new in RENAMED:
            renamed = renamed.replace(old, new)
        if with_key_bias or not renamed.endswith("k_proj.bias"):
            source[renamed] = array
    path = folder(tmp_path, "hf_videomae", **json.loads((FAULTS / "hf_transformers_5_12/config.json").read_text()))
    save_file(source, path / "model.safetensors")
    expected = np.load(FAULTS / "hf_transformers_5_12_logits.npy").reshape(-1)
    model = load_checkpoint(path, HALVES).model
    np.testing.assert_allclose(BuiltinReference(model).logits(faults_clip()[None])[0], expected, atol=1e-5)
