from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy import Client, PlainClip, SecurityKey, export, open_session
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import CheckpointOptions, load_checkpoint
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.exporters.checkpoints.huggingface import FAMILIES, class_names
from lcve_deploy.exporters.checkpoints.options import Framing
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.exporters.reference.transformers import ReferenceWarning, reference_for
from lcve_deploy.model.preprocess import Sampling
from lcve_deploy.model.transformer import IMAGENET, Attention, Readout, sinusoid_table
from tests.conftest import ORACLE, ORACLES, Oracle
from tests.support.artifacts import edit_json

OPTIONS = CheckpointOptions(heads=3, frames=8, size=32)

State = dict[str, Any]


def official(name: str = "v1_model_args") -> State:
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = torch.load(ORACLE / f"{name}.pth", weights_only=True)
    return dict(content.get("model", content.get("module")))


def saved(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path)
    return path


def folder(tmp_path: Path, name: str, **changes: Any) -> Path:
    """A copy of a Hugging Face folder with changes to its configuration; None takes an entry away."""
    copy = Path(shutil.copytree(ORACLE / name, tmp_path / name))
    settings = {**json.loads((copy / "config.json").read_text()), **changes}
    (copy / "config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    return copy


@pytest.mark.parametrize("oracle", ORACLES.values(), ids=ORACLES)
def test_the_builtin_reference_answers_as_the_original_implementation(oracle: Oracle, clip: np.ndarray) -> None:
    model = load_checkpoint(oracle.path, oracle.options).model
    np.testing.assert_allclose(BuiltinReference(model).logits(clip[None])[0], oracle.logits, atol=1e-6)


@pytest.mark.parametrize("name", ["hf_videomae", "hf_videomae_first_token", "hf_vivit"])
def test_a_hugging_face_folder_is_compared_with_transformers_itself(name: str, clip: np.ndarray) -> None:
    pytest.importorskip("transformers")
    oracle = ORACLES[name]
    reference = reference_for(load_checkpoint(oracle.path, oracle.options))
    assert reference.name.startswith("transformers")
    np.testing.assert_allclose(reference.logits(clip[None])[0], oracle.logits, atol=1e-6)


def test_a_reference_that_did_not_load_every_weight_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 5 has filled VideoMAE's biases with zeros without an error."""
    from lcve_deploy.exporters.reference import transformers as original

    load = original._load

    def forgetful(path: Path, architecture: str) -> Any:
        model = load(path, architecture)
        for name, tensor in model.state_dict().items():
            if name.endswith("query.bias"):
                tensor.zero_()
        return model

    monkeypatch.setattr(original, "_load", forgetful)
    with pytest.warns(ReferenceWarning, match="did not load every tensor"):
        assert isinstance(reference_for(load_checkpoint(ORACLES["hf_videomae"].path)), BuiltinReference)


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", "model_ema", None])
@pytest.mark.parametrize("prefix", ["", "backbone.", "encoder.", "module.", "module.backbone.", "_orig_mod.", "model."])
def test_wrappers_and_prefixes_are_taken_off(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    state = {prefix + name: tensor for name, tensor in official().items()}
    path = saved(tmp_path, {wrapper: state, "epoch": 3} if wrapper else state)
    assert load_checkpoint(path, OPTIONS).model.config.depth == 2


def test_what_training_scripts_save_beside_the_weights_does_no_harm(tmp_path: Path, clip: np.ndarray) -> None:
    weights = torch.nn.Linear(2, 2)
    content = {
        "model": official(),
        "optimizer": torch.optim.AdamW(weights.parameters()).state_dict(),
        "args": argparse.Namespace(lr=1e-3, model="vit"),
        "scaler": {"scale": 65536.0},
        "max_accuracy": np.float64(81.5),
    }
    model = load_checkpoint(saved(tmp_path, content), OPTIONS).model
    np.testing.assert_allclose(
        BuiltinReference(model).logits(clip[None])[0], ORACLES["v1_model_args"].logits, atol=1e-6
    )


def test_frames_and_size_come_from_the_training_arguments_where_they_are_saved(tmp_path: Path) -> None:
    content = {"model": official(), "args": argparse.Namespace(num_frames=8, input_size=32)}
    config = load_checkpoint(saved(tmp_path, content), CheckpointOptions(heads=3)).model.config
    assert str(config.geometry) == "8x32x32x3/2x8x8"


def test_segments_multiply_the_frames(tmp_path: Path) -> None:
    content = {"model": official(), "args": argparse.Namespace(num_frames=4, num_segments=2, input_size=32)}
    config = load_checkpoint(saved(tmp_path, content), CheckpointOptions(heads=3)).model.config
    assert config.geometry.frames == 8


@pytest.mark.parametrize(("data_set", "sampling"), [("SSV2", Sampling.UNIFORM), ("Kinetics-400", Sampling.KINETICS)])
def test_sampling_comes_from_the_training_arguments(tmp_path: Path, data_set: str, sampling: Sampling) -> None:
    arguments = argparse.Namespace(data_set=data_set, sampling_rate=2, short_side_size=40)
    said = load_checkpoint(saved(tmp_path, {"model": official(), "args": arguments}), OPTIONS).preprocessing
    assert (said.sampling, said.stride, said.short_side) == (sampling, 2, 40)


def test_official_defaults_are_16_frames_of_224_pixels(tmp_path: Path) -> None:
    config = load_checkpoint(saved(tmp_path, official()), CheckpointOptions(heads=3)).model.config
    assert str(config.geometry) == "16x224x224x3/2x8x8"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    path = saved(tmp_path, {"module": {name: tensor.to(dtype) for name, tensor in official().items()}})
    assert load_checkpoint(path, OPTIONS).model.weights["head.bias"].dtype in (np.float32, np.float64)


def test_legacy_files_without_a_zip_container_are_read(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"model": official()}, path, _use_new_zipfile_serialization=False)
    assert load_checkpoint(path, OPTIONS).model.config.width == 48


def test_cosine_attention_says_its_heads() -> None:
    config = load_checkpoint(ORACLES["v2_cos"].path, CheckpointOptions(frames=8, size=32)).model.config
    assert (config.heads, config.attention) == (3, Attention.COSINE)
    with pytest.raises(CheckpointError, match="has 3 heads, received 6"):
        load_checkpoint(ORACLES["v2_cos"].path, CheckpointOptions(heads=6, frames=8, size=32))


def test_first_token_files_are_told_apart_by_their_norm() -> None:
    oracle = ORACLES["v1_first_token"]
    assert load_checkpoint(oracle.path, oracle.options).model.config.readout is Readout.FIRST_CUBE


def test_the_sinusoid_table_is_one_dimensional_over_the_flattened_index() -> None:
    table = sinusoid_table(3, 4)
    np.testing.assert_allclose(table[2], [np.sin(2), np.cos(2), np.sin(0.02), np.cos(0.02)], rtol=1e-6)


def test_heads_must_be_said_where_the_width_is_not_official() -> None:
    with pytest.raises(CheckpointError, match="width 48") as caught:
        load_checkpoint(ORACLES["v1_model_args"].path, CheckpointOptions(frames=8, size=32))
    assert "--num-heads" in caught.value.hint


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(CheckpointError, match="divide the width 48, received 5"):
        load_checkpoint(ORACLES["v1_model_args"].path, CheckpointOptions(heads=5, frames=8, size=32))


def test_learned_positions_are_not_interpolated() -> None:
    with pytest.raises(CheckpointError, match=r"64 learned positions.*interpolated"):
        load_checkpoint(ORACLES["v1_module_learnable"].path, CheckpointOptions(heads=3, frames=8, size=64))


Breakage = Callable[[State], object]

BROKEN: dict[str, tuple[Breakage, str]] = {
    "missing": (lambda s: s.pop("blocks.1.mlp.fc2.bias"), r"missing blocks\.1\.mlp\.fc2\.bias"),
    "missing bias": (lambda s: s.pop("blocks.0.attn.q_bias"), r"missing blocks\.0\.attn\.q_bias"),
    "missing head": (lambda s: s.pop("head.weight"), r"missing head\.weight"),
    "unexpected": (lambda s: s.update({"head.extra": torch.zeros(1)}), r"unexpected head\.extra"),
    "unexpected scale": (lambda s: s.update({"blocks.0.gamma_1": torch.ones(48)}), r"missing blocks\.0\.gamma_2"),
    "misshapen": (
        lambda s: s.update({"blocks.1.norm1.bias": torch.zeros(47)}),
        r"blocks\.1\.norm1\.bias: shape \[47\]",
    ),
    "nan": (lambda s: s["blocks.1.norm1.bias"].fill_(float("nan")), r"infinity in: .*blocks\.1\.norm1\.bias"),
    "infinite": (lambda s: s["head.bias"].fill_(float("inf")), r"infinity in: .*head\.bias"),
    "integers": (lambda s: s.update({"head.bias": torch.zeros(5, dtype=torch.int64)}), r"floating-point.*head\.bias"),
    "scalar": (lambda s: s.update({"head.weight": torch.tensor(1.0)}), r"expected matrices"),
    "no class": (lambda s: s.update({"head.weight": torch.zeros(0, 48), "head.bias": torch.zeros(0)}), r"one class"),
    "scalar positions": (lambda s: s.update({"pos_embed": torch.tensor(1.0)}), r"pos_embed \[\]"),
    "sparse": (lambda s: s.update({"head.weight": s["head.weight"].to_sparse()}), r"head\.weight"),
    "transposed": (lambda s: s.update({"head.weight": s["head.weight"].T.contiguous()}), r"head\.weight"),
}


@pytest.mark.parametrize(("breakage", "message"), BROKEN.values(), ids=BROKEN)
def test_every_wrong_weight_is_named(tmp_path: Path, breakage: Breakage, message: str) -> None:
    state = official()
    breakage(state)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved(tmp_path, {"model": state}), OPTIONS)


REFUSED = {
    "divided attention": ("blocks.0.temporal_attn.qkv.weight", "divided attention"),
    "time embedding": ("time_embed", "divided attention"),
    "windows": ("layers.0.blocks.0.attn.relative_position_bias_table", "windows"),
    "pooling": ("blocks.0.attn.pool_q.weight", "convolution or pooling"),
    "pairs of tokens": ("blocks.0.attn.relative_position_bias_table", "rows and columns"),
    "InternVideo2": ("clip_projector.norm1_q.weight", "InternVideo2.*could be exact"),
    "rotary": ("blocks.0.attn.rope.inv_freq", "rotary"),
    "convolutions": ("layer1.0.conv1.weight", "convolution or pooling"),
}


@pytest.mark.parametrize(("name", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_exact_is_refused_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        load_checkpoint(saved(tmp_path, {"model": {**official(), name: torch.zeros(2)}}), OPTIONS)


@pytest.mark.parametrize("name", ["layers.0.attn.relative_position_index", "layer1.0.bn1.num_batches_tracked"])
def test_the_reason_comes_before_the_complaint_about_integers(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsupportedModelError, match="neighbour"):
        load_checkpoint(saved(tmp_path, {"model": {name: torch.zeros(2, dtype=torch.int64)}}), OPTIONS)


def test_models_of_other_than_three_channels_are_refused(tmp_path: Path) -> None:
    state = official()
    state["patch_embed.proj.weight"] = state["patch_embed.proj.weight"][:, :1].clone()
    with pytest.raises(CheckpointError, match="channels"):
        load_checkpoint(saved(tmp_path, {"model": state}), OPTIONS)


def test_only_what_nothing_says_is_called_assumed(tmp_path: Path) -> None:
    known: dict[str, Any] = {"family": Family.VIDEOMAE_V2, "frames": 8, "size": 32}
    (note,) = load_checkpoint(ORACLES["v2_cos"].path, CheckpointOptions(**known)).notes
    assert note == "normalisation: ImageNet mean and std (--mean and --std)"
    content = {"model": official(), "args": argparse.Namespace(num_frames=8, input_size=32)}
    assert load_checkpoint(saved(tmp_path, content), CheckpointOptions(heads=3, family=Family.VIDEOMAE)).notes == (
        note,
    )
    assert load_checkpoint(ORACLES["hf_videomae"].path).notes == (note,)
    assert load_checkpoint(ORACLES["hf_videomae"].path, CheckpointOptions(normalisation=IMAGENET)).notes == ()


@pytest.mark.parametrize("stated", [{"quant_method": "bitsandbytes"}, {}])
def test_a_quantisation_that_the_weights_do_not_have_is_an_assumption(tmp_path: Path, stated: dict[str, str]) -> None:
    folder = Path(shutil.copytree(ORACLES["hf_videomae"].path, tmp_path / "folder"))
    edit_json(folder / "config.json", lambda config: config.update(quantization_config=stated))
    _, note = load_checkpoint(folder).notes
    assert note.startswith("quantisation: none: the floating-point weights are used as they are")
    assert str(stated.get("quant_method")) in note


def test_unknown_layouts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"patch_embed\.proj\.weight"):
        load_checkpoint(saved(tmp_path, {"fc.weight": torch.zeros(2, 2)}), OPTIONS)


def test_timesformer_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedModelError, match="divided attention"):
        load_checkpoint(ORACLE / "hf_timesformer")


@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("vjepa2_1", "rotary"),
        ("swin", "windows"),
        ("hiera", "convolution"),
        ("mystery", "does not know its layout"),
        (None, "does not know its layout"),
    ],
)
def test_model_types_that_are_not_exported(tmp_path: Path, model_type: str | None, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        load_checkpoint(folder(tmp_path, "hf_videomae", model_type=model_type))


def test_a_model_without_a_classifier_is_refused(tmp_path: Path) -> None:
    path = folder(tmp_path, "hf_videomae", architectures=["VideoMAEForPreTraining"])
    with pytest.raises(UnsupportedModelError, match="VideoMAEForPreTraining"):
        load_checkpoint(path)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    proof, path = tmp_path / "it-ran", tmp_path / "evil.pth"
    torch.save({"model": official(), "x": Malicious(proof)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(path, OPTIONS)
    assert not proof.exists()


def test_a_malicious_pickle_in_a_folder_is_refused_and_not_run(tmp_path: Path) -> None:
    path, proof = folder(tmp_path, "hf_videomae"), tmp_path / "it-ran"
    (path / "model.safetensors").unlink()
    torch.save({"x": Malicious(proof)}, path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken", b"\x80\x02."])
def test_damaged_files_are_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        load_checkpoint(path, OPTIONS)


def test_a_truncated_file_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "short.pth"
    whole = ORACLES["v1_gamma"].path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"short\.pth"):
        load_checkpoint(path, OPTIONS)


def tensors_of(path: Path) -> State:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


def test_bin_folders_are_read(tmp_path: Path, clip: np.ndarray) -> None:
    path = folder(tmp_path, "hf_videomae")
    torch.save(tensors_of(path), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    model = load_checkpoint(path).model
    np.testing.assert_allclose(BuiltinReference(model).logits(clip[None])[0], ORACLES["hf_videomae"].logits, atol=1e-6)


def sharded(path: Path, name: str) -> Path:
    from safetensors.torch import save_file

    tensors = tensors_of(path)
    names = sorted(tensors)
    save_file({n: tensors[n] for n in names[::2]}, path / "a.safetensors")
    save_file({n: tensors[n] for n in names[1::2]}, path / "b.safetensors")
    (path / "model.safetensors").unlink()
    shards = {n: "a.safetensors" if i % 2 == 0 else name for i, n in enumerate(names)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    return path


def test_sharded_folders_are_read(tmp_path: Path) -> None:
    assert load_checkpoint(sharded(folder(tmp_path, "hf_videomae"), "b.safetensors")).model.config.classes == 5


@pytest.mark.parametrize("shard", ["../hf_videomae/b.safetensors", "/etc/passwd", "missing.safetensors"])
def test_shards_stay_in_the_folder(tmp_path: Path, shard: str) -> None:
    with pytest.raises(CheckpointError, match="not a file of the folder"):
        load_checkpoint(sharded(folder(tmp_path, "hf_videomae"), shard))


def test_names_of_transformers_5_are_read_too(tmp_path: Path, clip: np.ndarray) -> None:
    from safetensors.torch import save_file

    path = folder(tmp_path, "hf_vivit")
    renames = (
        ("encoder.layer.", "layers."),
        ("attention.attention.query", "attention.q_proj"),
        ("attention.attention.key", "attention.k_proj"),
        ("attention.attention.value", "attention.v_proj"),
        ("attention.output.dense", "attention.o_proj"),
        ("intermediate.dense", "mlp.fc1"),
        ("output.dense", "mlp.fc2"),
    )

    def renamed(name: str) -> str:
        for old, new in renames:
            name = name.replace(old, new)
        return name

    save_file({renamed(n): t for n, t in tensors_of(path).items()}, path / "model.safetensors")
    model = load_checkpoint(path, CheckpointOptions(normalisation=IMAGENET)).model
    np.testing.assert_allclose(BuiltinReference(model).logits(clip[None])[0], ORACLES["hf_vivit"].logits, atol=1e-6)


def test_videomae_without_a_processor_file_is_normalised_as_imagenet() -> None:
    assert load_checkpoint(ORACLES["hf_videomae"].path).model.normalisation == IMAGENET


def test_vivit_without_a_processor_file_must_be_told() -> None:
    with pytest.raises(CheckpointError, match="normalisation") as caught:
        load_checkpoint(ORACLE / "hf_vivit")
    assert "--mean" in caught.value.hint


def test_vivits_own_processor_is_expressed_exactly(tmp_path: Path) -> None:
    image_processing = pytest.importorskip("transformers.models.vivit.image_processing_vivit")
    path = folder(tmp_path, "hf_vivit")
    processor = image_processing.VivitImageProcessor(crop_size={"height": 32, "width": 32})
    processor.save_pretrained(path)
    loaded = load_checkpoint(path)
    np.testing.assert_allclose(loaded.model.normalisation.mean, [0.75] * 3)
    np.testing.assert_allclose(loaded.model.normalisation.std, [0.25] * 3)
    assert loaded.preprocessing.framing == Framing(short_side=256)
    assert loaded.notes == ()

    frame = np.arange(0, 256 * 256 * 3).reshape(256, 256, 3).astype(np.uint8)
    theirs = processor([frame], do_resize=False, do_center_crop=False, return_tensors="np")["pixel_values"][0, 0]
    ours = (frame / 255 - loaded.model.normalisation.mean) / loaded.model.normalisation.std
    np.testing.assert_allclose(ours.transpose(2, 0, 1), theirs, atol=1e-5)


PROCESSORS: dict[str, tuple[dict[str, Any], float, float]] = {
    "plain": ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 0.5, 0.25),
    "no normalisation": ({"do_normalize": False}, 0.0, 1.0),
    "no rescaling": ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, 0.5, 0.2),
    "nulls": (
        {"do_pad": None, "rescale_factor": None, "image_mean": [0.5] * 3, "image_std": [0.2] * 3},
        0.5,
        0.2,
    ),
    "nested": ({"image_processor": {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}}, 0.1, 0.2),
}


@pytest.mark.parametrize(("settings", "mean", "std"), PROCESSORS.values(), ids=PROCESSORS)
def test_processor_files_are_expressed_as_one_formula(
    tmp_path: Path, settings: dict[str, Any], mean: float, std: float
) -> None:
    path = folder(tmp_path, "hf_videomae")
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    normalisation = load_checkpoint(path).model.normalisation
    np.testing.assert_allclose(normalisation.mean, [mean] * 3)
    np.testing.assert_allclose(normalisation.std, [std] * 3)


def test_options_must_not_contradict_a_folder() -> None:
    with pytest.raises(CheckpointError, match="--frames 16, the folder says 8"):
        load_checkpoint(ORACLES["hf_videomae"].path, CheckpointOptions(frames=16))


def test_class_names_of_a_folder_are_in_numeric_order(tmp_path: Path) -> None:
    labels = {str(i): f"name {i}" for i in (4, 0, 2, 1, 3)}
    assert load_checkpoint(folder(tmp_path, "hf_videomae", id2label=labels)).classes == tuple(
        f"name {i}" for i in range(5)
    )


@pytest.mark.parametrize("activation", ["gelu_new", "quick_gelu", "relu", "silu"])
def test_other_activations_answer_as_transformers_does(tmp_path: Path, clip: np.ndarray, activation: str) -> None:
    pytest.importorskip("transformers")
    loaded = load_checkpoint(folder(tmp_path, "hf_videomae", hidden_act=activation))
    expected = reference_for(loaded).logits(clip[None])
    np.testing.assert_allclose(BuiltinReference(loaded.model).logits(clip[None]), expected, atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": True},
        {"num_frames": 10_000_000},
        {"num_hidden_layers": 10**30},
        {"id2label": None, "num_labels": "many"},
        {"hidden_size": 0},
        {"tubelet_size": "2"},
        {"use_mean_pooling": "yes"},
        {"layer_norm_eps": None},
        {"num_attention_heads": 5},
    ],
    ids=str,
)
def test_configurations_that_make_no_model_are_one_clear_error(tmp_path: Path, change: State) -> None:
    path = folder(tmp_path, "hf_videomae")
    settings = {**json.loads((path / "config.json").read_text()), **change}
    (path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize("change", [{"do_rescale": "x"}, {"offset": 1}, {"image_mean": None}, {"rescale_factor": 0}])
def test_processor_files_that_make_no_sense_are_refused(tmp_path: Path, change: State) -> None:
    path = folder(tmp_path, "hf_videomae")
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **change}
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_the_folder_of_a_training_run_is_hinted_at(tmp_path: Path) -> None:
    torch.save(official(), tmp_path / "mp_rank_00_model_states.pt")
    with pytest.raises(CheckpointError, match=r"no config\.json") as caught:
        load_checkpoint(tmp_path, OPTIONS)
    assert "mp_rank_00_model_states.pt" in caught.value.hint


def test_a_transformers_that_cannot_load_a_folder_is_not_the_reference(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    path = folder(tmp_path, "hf_videomae")
    settings = {**json.loads((path / "config.json").read_text()), "attention_probs_dropout_prob": None}
    (path / "config.json").write_text(json.dumps(settings))
    with pytest.warns(ReferenceWarning, match="instead of transformers"):
        assert isinstance(reference_for(load_checkpoint(path)), BuiltinReference)


def test_unknown_activations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="mystery"):
        load_checkpoint(folder(tmp_path, "hf_videomae", hidden_act="mystery"))


REASONS = {
    **dict.fromkeys(("xclip", "videoprism"), "one spatial order for all frames combined with one temporal"),
    **dict.fromkeys(("swin", "swinv2"), "would reveal the cube order"),
    **dict.fromkeys(("hiera", "sam2", "mvit", "uniformer", "convnext", "resnet"), "overlapping convolution"),
    "vit_mae": "image model",
    "eva02": "image model.*rotary",
    "qwen2_5_vl": "2 x 2",
    "internvideo2": "could be exact",
    "bert": "reads text",
}


@pytest.mark.parametrize(("model_type", "reason"), REASONS.items(), ids=REASONS)
def test_every_refusal_gives_its_reason(tmp_path: Path, model_type: str, reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason) as caught:
        load_checkpoint(folder(tmp_path, "hf_videomae", model_type=model_type))
    assert "videomae, vivit" in caught.value.hint


def test_more_than_ten_class_names_are_in_numeric_order(tmp_path: Path) -> None:
    labels = {str(i): f"name {i}" for i in (11, 3, 10, 0, 2, 1, 9, 8, 4, 7, 5, 6)}
    assert class_names(folder(tmp_path, "hf_videomae", id2label=labels), 12) == tuple(f"name {i}" for i in range(12))


@pytest.mark.parametrize("name", ["hf_videomae", "hf_vivit"])
def test_defaults_of_a_short_configuration_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    path = folder(tmp_path, name, layer_norm_eps=None, hidden_act=None, qkv_bias=None, use_mean_pooling=None)
    config = load_checkpoint(path, CheckpointOptions(normalisation=IMAGENET)).model.config
    own = transformers.AutoConfig.for_model(name.removeprefix("hf_"))
    assert config.block_eps == own.layer_norm_eps
    assert FAMILIES[name.removeprefix("hf_")].defaults["hidden_act"] == own.hidden_act


def wide_folder(tmp_path: Path, name: str, **changes: Any) -> Path:
    """A folder of transformers' own making, with clips that are wider than they are high."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(ORACLE / name)
    for key, value in {"image_size": [16, 32], **changes}.items():
        setattr(config, key, value)
    torch.manual_seed(0)
    model = transformers.AutoModelForVideoClassification.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", ["hf_videomae", "hf_vivit"])
def test_height_and_width_of_a_folder_are_in_this_order(tmp_path: Path, name: str) -> None:
    pytest.importorskip("transformers")
    loaded = load_checkpoint(wide_folder(tmp_path, name), CheckpointOptions(normalisation=IMAGENET))
    assert (loaded.model.config.geometry.height, loaded.model.config.geometry.width) == (16, 32)
    wide = np.random.default_rng(0).integers(0, 256, (1, *loaded.model.config.geometry.clip_shape), np.uint8)
    expected = reference_for(loaded)
    assert expected.name.startswith("transformers")
    np.testing.assert_allclose(BuiltinReference(loaded.model).logits(wide), expected.logits(wide), atol=1e-6)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "quick_gelu", "relu", "silu"])
def test_activations_of_an_exported_graph_answer_as_transformers_does(
    tmp_path: Path, clip: np.ndarray, key: SecurityKey, activation: str
) -> None:
    """The graph is compared with transformers here, as its own parity would be if both sides had one mistake."""
    pytest.importorskip("transformers")
    path = wide_folder(tmp_path, "hf_videomae", image_size=32, hidden_act=activation)
    export(path, tmp_path / "service", key=key)
    client = Client.open(tmp_path / "service/client", key)
    answer = open_session(tmp_path / "service/server").run(client.encrypt(PlainClip(values=clip[None])))
    expected = reference_for(load_checkpoint(path)).logits(clip[None])
    np.testing.assert_allclose(client.plain_order(answer), expected, atol=1e-4 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html></html>", "a web page"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_what_is_downloaded_in_place_of_weights_is_named(
    folder: bool, content: bytes, what: str, tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    if folder:
        path = tmp_path / "folder"
        shutil.copytree(ORACLES["hf_videomae"].path, path)
    (path / "model.safetensors" if folder else path).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"is {what}, not the weights") as caught:
        load_checkpoint(path)
    assert "download the file itself" in caught.value.hint
