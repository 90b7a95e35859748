"""A file of class vectors in place of a classifier: zero-shot logits of CLIP and SigLIP, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lcve_deploy import Client, ExportOptions, PlainClip, SecurityKey, classify, export
from lcve_deploy.errors import CheckpointError
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.checkpoints.class_vectors import read_class_vectors
from lcve_deploy.exporters.checkpoints.outputs import OutputChoice
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import reference_for
from lcve_deploy.model.predictions import ProblemType, sigmoid, softmax
from tests.conftest import run_ok

KEY = SecurityKey(bytes(range(32)))
NAMES = ("a cat", "a dog", "a bird")
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = {**SIZES, "vocab_size": 60, "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1}
PICTURES = {**SIZES, "image_size": 32, "patch_size": 8}
MODELS: dict[str, tuple[str, dict[str, Any], ProblemType]] = {
    "clip": ("CLIP", {"projection_dim": 24}, ProblemType.SINGLE_LABEL),
    "siglip": ("Siglip", {}, ProblemType.MULTI_LABEL),
}
Values = npt.NDArray[Any]


@pytest.fixture(scope="module", params=MODELS)
def zero_shot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Values]:
    """A random model of pictures and texts with its class vectors, and transformers' logits for a picture."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, _save(request.param, folder)


def picture() -> npt.NDArray[np.uint8]:
    rows, columns, channels = np.mgrid[:32, :32, :3]
    return ((rows * 7 + columns * 3) * (1 + channels) % 256).astype(np.uint8)


def _save(name: str, folder: Path) -> Values:
    import torch
    import transformers

    prefix, more, problem_type = MODELS[name]
    torch.manual_seed(3)
    config = getattr(transformers, f"{prefix}Config")(text_config={**TEXT}, vision_config={**PICTURES}, **more)
    model = getattr(transformers, f"{prefix}Model")(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
        model.logit_scale.fill_(2.5)
        if name == "siglip":
            model.logit_bias.fill_(-1.5)
    model.save_pretrained(folder / "model")
    texts = torch.tensor([[0, 5, 9, 1], [0, 7, 3, 1], [0, 11, 12, 1]])
    pixels = torch.from_numpy(picture() / 255.0)[None].permute(0, 3, 1, 2)
    with torch.inference_mode():
        out = model(input_ids=texts, pixel_values=(pixels - 0.5) / 0.5, attention_mask=torch.ones_like(texts))
        vectors = out.text_embeds / out.text_embeds.norm(dim=-1, keepdim=True)
    _save_vectors(folder / "vectors.safetensors", model, vectors.numpy(), problem_type)
    logits: Values = out.logits_per_image.numpy()
    return logits


def _save_vectors(path: Path, model: Any, vectors: Values, problem_type: ProblemType) -> None:
    from safetensors.numpy import save_file

    tensors = {"vectors": vectors, "scale": model.logit_scale.detach().exp().numpy().reshape(1)}
    if hasattr(model, "logit_bias"):
        tensors["bias"] = model.logit_bias.detach().numpy().reshape(1)
    texts = {"names": json.dumps(NAMES), "problem_type": problem_type.value}
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, texts)


def options(folder: Path, **more: Any) -> CheckpointOptions:
    from lcve_deploy import Normalisation

    half = Normalisation(mean=(0.5,) * 3, std=(0.5,) * 3)
    return CheckpointOptions(class_vectors=folder / "vectors.safetensors", normalisation=half, **more)


def test_both_references_have_the_logits_of_transformers(zero_shot: tuple[str, Path, Values]) -> None:
    _, folder, logits = zero_shot
    checkpoint = load_checkpoint(folder / "model", options(folder))
    clips = picture()[None, None]
    assert np.abs(logits).max() > 1
    for reference in (reference_for(checkpoint), BuiltinReference(checkpoint.model)):
        np.testing.assert_allclose(reference.logits(clips), logits, rtol=0, atol=1e-6 * np.abs(logits).max())


def test_hidden_labels_and_names(zero_shot: tuple[str, Path, Values], tmp_path: Path) -> None:
    name, folder, logits = zero_shot
    export(folder / "model", tmp_path / "s", key=KEY, options=ExportOptions(checkpoint=options(folder)))
    found = classify(PlainClip(values=picture()), tmp_path / "s", key=KEY, top=3)
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-4 * np.abs(logits).max())
    settings = Client.open(tmp_path / "s/client", KEY).settings
    assert (settings.classes, settings.labels, settings.problem_type) == (NAMES, "hidden", MODELS[name][2])
    wanted = (softmax if name == "clip" else sigmoid)(logits)[0]
    assert {p.name: pytest.approx(p.probability, abs=1e-4) for p in found.predictions} == dict(
        zip(NAMES, wanted, strict=True)
    )


def test_verify_with_the_same_file(zero_shot: tuple[str, Path, Values], tmp_path: Path) -> None:
    _, folder, _ = zero_shot
    KEY.write(tmp_path / "key.bin")
    given = ("--class-vectors", folder / "vectors.safetensors", "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    sides = ("--key", tmp_path / "key.bin", "--ckpt", folder / "model")
    run_ok("export", *sides, *given, "-o", tmp_path / "s")
    printed = run_ok("verify", tmp_path / "s", *sides, *given)
    assert ", with class vectors" in printed


def test_each_token_has_the_classes(zero_shot: tuple[str, Path, Values]) -> None:
    """Each token is normalised and projected as the picture's vector would be."""
    name, folder, _ = zero_shot
    clips = picture()[None, None]
    if name == "siglip":  # its vector is pooled by attention, and tokens are not projected
        tokens = load_checkpoint(folder / "model", options(folder, output=OutputChoice.TOKENS)).model
        assert tokens.config.output_shape == (16, 3)
        return
    model = load_checkpoint(folder / "model", options(folder, output=OutputChoice.TOKENS)).model
    received = BuiltinReference(model).logits(clips)
    assert received.shape == (1, 17, 3)
    whole = load_checkpoint(folder / "model", options(folder)).model
    np.testing.assert_allclose(received[:, 0], BuiltinReference(whole).logits(clips), atol=1e-9)


# What is refused

GOOD: dict[str, Any] = {"vectors": np.eye(3, 5, dtype=np.float32)}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no vectors": ({"scale": np.ones(1)}, r"expected vectors of floats, \[classes, width\], received none"),
    "whole numbers": ({"vectors": np.eye(3, dtype=np.int64)}, r"received int64 \[3, 3\]"),
    "one axis": ({"vectors": np.ones(3)}, r"received float64 \[3\]"),
    "long vectors": ({"vectors": 2 * np.eye(3)}, "expected vectors of length 1, received lengths from 2 to 2"),
    "not finite": ({"vectors": np.eye(3), "scale": np.array(np.nan)}, "not finite"),
    "two scales": ({**GOOD, "scale": np.ones(2)}, "expected one number for scale"),
    "four biases": ({**GOOD, "bias": np.ones(4)}, "expected one number or 3 for bias"),
    "half a unit": ({**GOOD, "unit": np.array(0.5)}, "expected 0 or 1 for unit"),
    "two names": ({**GOOD, "names": np.array(["a", "b"])}, "expected 3 names"),
    "another problem": ({**GOOD, "problem_type": np.array("ranking")}, "received 'ranking'"),
    "another entry": ({**GOOD, "weights": np.ones(3)}, "unknown entries: weights"),
}


@pytest.mark.parametrize(("arrays", "message"), BAD.values(), ids=BAD)
def test_files_that_are_refused(arrays: dict[str, Any], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "vectors.npz", **arrays)
    with pytest.raises(CheckpointError, match=message):
        read_class_vectors(tmp_path / "vectors.npz")


def test_files_that_are_no_vectors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there are no class vectors at"):
        read_class_vectors(tmp_path / "none.npz")
    for name in ("text.npz", "text.safetensors"):
        (tmp_path / name).write_text("these are no vectors, but a text that is long enough")
        with pytest.raises(CheckpointError, match="class vectors"):
            read_class_vectors(tmp_path / name)
    np.savez(tmp_path / "pickled.npz", vectors=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="cannot be read as class vectors"):
        read_class_vectors(tmp_path / "pickled.npz")


def test_vectors_of_a_linear_classifier(tmp_path: Path) -> None:
    weight, bias = np.arange(6.0).reshape(2, 3), np.array([1.0, -1.0])
    np.savez(tmp_path / "vectors.npz", vectors=weight, bias=bias, unit=0)
    vectors = read_class_vectors(tmp_path / "vectors.npz")
    np.testing.assert_array_equal(vectors.weight, weight)
    np.testing.assert_array_equal(vectors.bias, bias)
    assert not vectors.unit


def test_vectors_of_another_width_are_refused(zero_shot: tuple[str, Path, Values], tmp_path: Path) -> None:
    _, folder, _ = zero_shot
    np.savez(tmp_path / "vectors.npz", **GOOD)
    with pytest.raises(CheckpointError, match=r"class vectors of width (24|32), as the model answers, received 5"):
        load_checkpoint(folder / "model", CheckpointOptions(class_vectors=tmp_path / "vectors.npz"))
