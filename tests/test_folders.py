"""Hugging Face folders as people have them: what other versions of transformers wrote, and the hub's cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lcve_deploy import CheckpointOptions, ExportOptions, Normalisation, SecurityKey
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.model.assumptions import Fact
from lcve_deploy.model.transformer import IMAGENET
from lcve_deploy.verbs._client_settings import client_of
from tests.conftest import ORACLE, ORACLES
from tests.test_checkpoints import folder

CLIP = ORACLE / "clip_8x32x32.npy"
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


def expected_logits(path: Path) -> np.ndarray:
    """What transformers makes of a folder, for the oracle clip."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    model = transformers.VideoMAEForVideoClassification.from_pretrained(path).double().eval()
    normal = (np.load(CLIP) / 255 - IMAGENET.mean) / IMAGENET.std
    with torch.no_grad():
        logits: np.ndarray = model(pixel_values=torch.from_numpy(normal.transpose(0, 3, 1, 2))[None]).logits[0].numpy()
    return logits


NAMES = {str(i): f"name {i}" for i in range(5)}
MISNAMED: dict[str, object] = {
    "from one": {str(i + 1): f"name {i}" for i in range(5)},
    "a gap": {**{k: NAMES[k] for k in "0123"}, "5": "name 5"},
    "too few": {"0": "name 0", "1": "name 1"},
    "too many": {**NAMES, "5": "name 5"},
    "twice": {**{k: NAMES[k] for k in "0123"}, "03": "name 3"},
    "below zero": {**{k: NAMES[k] for k in "0123"}, "-1": "name"},
    "texts": {name: name for name in "abcde"},
    "no texts": {**NAMES, "2": None},
    "a list": list(NAMES.values()),
}


@pytest.mark.parametrize("labels", MISNAMED.values(), ids=MISNAMED)
def test_names_that_are_not_those_of_the_classes_are_not_taken(
    tmp_path: Path, key: SecurityKey, labels: object
) -> None:
    """Each name would stand at another class, and nothing would say so."""
    path = folder(tmp_path, "hf_videomae", id2label=labels, label2id=None)
    loaded = load_checkpoint(path)
    assert (loaded.model.config.classes, loaded.classes) == (5, None)
    notes = {a.fact: a.value for a in client_of(loaded, key, ExportOptions()).settings.assumptions}
    assert notes[Fact.CLASS_NAMES] == "class 0 to class 4"


def test_names_in_any_order_are_taken_by_their_number(tmp_path: Path) -> None:
    path = folder(tmp_path, "hf_videomae", id2label={k: NAMES[k] for k in "30142"} | {"4": 7})
    assert load_checkpoint(path).classes == ("name 0", "name 1", "name 2", "name 3", "7")


@pytest.mark.parametrize("said", [{"num_labels": 5, "id2label": {"0": "a", "1": "b"}}, {}])
def test_the_classifier_says_how_many_classes_there_are(tmp_path: Path, said: dict[str, object]) -> None:
    path = folder(tmp_path, "hf_videomae", **{"id2label": None, "label2id": None, **said})
    model = load_checkpoint(path).model
    logits = BuiltinReference(model).logits(np.load(CLIP)[None])[0]
    np.testing.assert_allclose(logits, ORACLES["hf_videomae"].logits, atol=1e-6)


def test_a_number_of_classes_that_the_classifier_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"classifier\.weight: shape \[5, 48\], expected \[3, 48\]"):
        load_checkpoint(folder(tmp_path, "hf_videomae", num_labels=3))


def test_a_folder_with_an_adapter_is_refused(tmp_path: Path) -> None:
    """transformers would put it into the model; without it, the answers are those of another one."""
    path = folder(tmp_path, "hf_videomae")
    (path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has an adapter") as caught:
        load_checkpoint(path)
    assert "merge_and_unload" in caught.value.hint


def test_the_old_name_of_a_setting_comes_before_the_new_one_as_in_transformers(tmp_path: Path) -> None:
    """transformers would leave the biases out, so a folder that has them is refused."""
    with pytest.raises(CheckpointError, match=r"unexpected .*bias"):
        load_checkpoint(folder(tmp_path, "hf_videomae", qkv_bias=False, qv_bias=True))


@pytest.mark.parametrize("activation", ["gelu_python_tanh", "gelu_accurate", "gelu_new", "quick_gelu", "silu", "relu"])
def test_activations_are_those_of_transformers(tmp_path: Path, activation: str) -> None:
    path = folder(tmp_path, "hf_videomae", hidden_act=activation)
    logits = BuiltinReference(load_checkpoint(path).model).logits(np.load(CLIP)[None])[0]
    np.testing.assert_allclose(logits, expected_logits(path), atol=1e-9)


@pytest.mark.parametrize("tubelet", [2, "2", [2, 8], [2.0, 8, 8]])
def test_a_tubelet_that_says_no_cube_is_one_clear_error(tmp_path: Path, tubelet: object) -> None:
    with pytest.raises(CheckpointError, match=r"expected a tubelet_size like \[2, 16, 16\], received"):
        load_checkpoint(folder(tmp_path, "hf_vivit", tubelet_size=tubelet), HALVES)
