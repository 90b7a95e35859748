"""Codebases that share their weight names: each is read as its own code computes, or nothing is silent."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lcve_deploy import CheckpointOptions, ExportOptions, SecurityKey, export
from lcve_deploy.cli.options.checkpoint import _FAMILIES, _READOUTS
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.exporters.checkpoints.options import ReadoutChoice
from lcve_deploy.exporters.checkpoints.outer import load_outer_weights
from lcve_deploy.exporters.checkpoints.reading import read_pickled
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.model.assumptions import Fact
from lcve_deploy.model.preprocess import Preprocess, Sampling
from lcve_deploy.model.transformer import Readout
from lcve_deploy.verbs._client_settings import client_of
from lcve_deploy.video.sampling import frame_indices
from tests.conftest import ORACLE, ORACLES, run_error, run_ok

DATA = ORACLE / "families"
EXPECTED: dict[str, dict[str, Any]] = json.loads((DATA / "logits.json").read_text())
SILENT = ("v1_", "v2_")
OPTIONS = CheckpointOptions(heads=3, frames=8, size=32)

Weights = dict[str, Any]


def clip_of(name: str) -> np.ndarray:
    shape = tuple(EXPECTED[name]["clip"])
    if shape == (8, 32, 32):
        return np.load(ORACLE / "clip_8x32x32.npy")
    return np.random.default_rng(13).integers(0, 256, (*shape, 3), dtype=np.uint8)


def options_of(name: str) -> CheckpointOptions:
    """The arguments of a file say its frames and size; what has none is told."""
    frames, size, _ = EXPECTED[name]["clip"]
    told = {"frames": frames, "size": size} if name.startswith(SILENT) else {}
    return CheckpointOptions(heads=EXPECTED[name]["heads"], **told)


def content_of(name: str) -> dict[str, Any]:
    return dict(read_pickled(DATA / f"{name}.pth"))


def weights(name: str = "v1_model_args") -> Weights:
    content = read_pickled(ORACLES[name].path)
    return dict(content.get("model") or content.get("module"))


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def with_arguments(tmp_path: Path, **arguments: object) -> Path:
    return saved(tmp_path, {"model": weights(), "args": argparse.Namespace(**arguments)})


def facts(path: Path, options: CheckpointOptions = OPTIONS) -> dict[Fact, str]:
    return {assumption.fact: assumption.value for assumption in load_checkpoint(path, options).assumptions}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_family_answers_as_its_own_code(name: str) -> None:
    model = load_checkpoint(DATA / f"{name}.pth", options_of(name)).model
    logits = BuiltinReference(model).logits(clip_of(name)[None])[0]
    np.testing.assert_allclose(logits, EXPECTED[name]["logits"], atol=1e-6)


def test_mvds_own_save_is_read_as_mvd() -> None:
    loaded = load_checkpoint(DATA / "mvd_as_saved.pth", CheckpointOptions(heads=3))
    logits = BuiltinReference(loaded.model).logits(np.load(DATA / "clip_mvd.npy")[None])[0]
    np.testing.assert_allclose(logits, np.load(DATA / "mvd_logits_by_mvd_code.npy"), atol=1e-6)
    assert {assumption.fact for assumption in loaded.assumptions} == {Fact.WEIGHTS, Fact.NORMALISATION}


@pytest.mark.parametrize("name", ["mvd_class_token_mean", "mvd_class_token_read", "umt_saved_positions"])
def test_each_readout_is_exported_exactly(name: str, key: SecurityKey, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint=options_of(name))
    assert export(DATA / f"{name}.pth", tmp_path / "out", key=key, options=options).parity.ok


@pytest.mark.parametrize(
    ("name", "readout"),
    [
        ("mvd_plain", Readout.MEAN),
        ("mvd_first_cube", Readout.FIRST_CUBE),
        ("mvd_class_token_mean", Readout.CUBES_MEAN),
        ("mvd_class_token_read", Readout.CLASS_TOKEN),
    ],
)
def test_a_class_token_and_the_norm_say_the_readout(name: str, readout: Readout) -> None:
    assert load_checkpoint(DATA / f"{name}.pth", options_of(name)).model.config.readout is readout


def test_a_file_without_arguments_is_an_assumption_that_can_be_told(tmp_path: Path) -> None:
    content = content_of("mvd_plain")
    path = saved(tmp_path, {"model": content["model"]})
    options: dict[str, Any] = {"heads": 2, "frames": 8, "size": 32}
    assumed = load_checkpoint(path, CheckpointOptions(**options))
    assert {Fact.FAMILY, Fact.POSITIONS, Fact.READOUT} <= {a.fact for a in assumed.assumptions}
    told = load_checkpoint(path, CheckpointOptions(**options, family=Family.MVD))
    assert {a.fact for a in told.assumptions} == {Fact.NORMALISATION}
    logits = BuiltinReference(told.model).logits(clip_of("mvd_plain")[None])[0]
    np.testing.assert_allclose(logits, EXPECTED["mvd_plain"]["logits"], atol=1e-6)


def test_a_family_that_the_arguments_contradict_is_told(tmp_path: Path) -> None:
    path = with_arguments(tmp_path, use_cls_token=False, remove_pos_emb=False)
    options = CheckpointOptions(heads=3, frames=8, size=32, family=Family.VIDEOMAE)
    assert facts(path, options)[Fact.FAMILY] == "VideoMAE, although the training arguments are those of MVD"


def test_arguments_of_two_families_are_those_of_none(tmp_path: Path) -> None:
    path = with_arguments(tmp_path, use_cls_token=False, delete_head=False)
    assert facts(path)[Fact.FAMILY] == "VideoMAE, by its weights, because the training arguments match MVD and UMT"


def test_the_arguments_of_videomae_are_those_of_many(tmp_path: Path) -> None:
    assert Fact.FAMILY in facts(with_arguments(tmp_path, data_set="Kinetics-400", num_frames=8))


def test_cubes_of_one_frame_are_taken_for_umts(tmp_path: Path) -> None:
    """Frames are UMT's too where nothing says them."""
    path = saved(tmp_path, {"model": content_of("umt_sinusoid")["model"]})
    loaded = load_checkpoint(path, CheckpointOptions(heads=2))
    assert loaded.model.config.geometry.frames == 8
    assert "UMT" in facts(path, CheckpointOptions(heads=2))[Fact.FAMILY]


def test_positions_that_umt_would_have_saved_are_not_made_up() -> None:
    with pytest.raises(UnsupportedModelError, match="UMT saves its positions for a clip of 784 cubes"):
        load_checkpoint(DATA / "umt_sinusoid.pth", CheckpointOptions(heads=2, frames=4))


def test_learned_positions_say_the_frames(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": content_of("umt_saved_positions")["model"]})
    loaded = load_checkpoint(path, CheckpointOptions(heads=2, size=32))
    assert loaded.model.config.geometry.frames == 8


@pytest.mark.parametrize(
    ("name", "family", "message"),
    [
        ("umt_saved_positions", Family.MVD, "learned positions"),
        ("v2_cosine_above_cap", Family.VIDEOMAE, "cosine attention"),
        ("mvd_class_token_mean", Family.UMT, "class token"),
    ],
)
def test_weights_that_a_family_cannot_have_are_refused(name: str, family: Family, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(DATA / f"{name}.pth", CheckpointOptions(heads=2, frames=8, size=32, family=family))


def test_mvds_positions_need_a_width_that_divides(tmp_path: Path) -> None:
    state = {"patch_embed.proj.weight": torch.ones(24, 3, 2, 8, 8), "blocks.0.mlp.fc1.weight": torch.ones(24, 24)}
    layers = {
        f"blocks.0.{name}.{kind}": torch.ones(24, 24) if kind == "weight" and "norm" not in name else torch.ones(24)
        for name in ("norm1", "norm2", "attn.proj", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    }
    rest = {"blocks.0.attn.qkv.weight": torch.ones(72, 24), "patch_embed.proj.bias": torch.ones(24)}
    head = {"fc_norm.weight": torch.ones(24), "fc_norm.bias": torch.ones(24)}
    logits = {"head.weight": torch.ones(5, 24), "head.bias": torch.ones(5)}
    path = saved(tmp_path, {**state, **layers, **rest, **head, **logits})
    with pytest.raises(CheckpointError, match="multiple of 16, received 24"):
        load_checkpoint(path, CheckpointOptions(heads=2, frames=8, size=32, family=Family.MVD))


def test_the_command_line_knows_every_family_and_readout() -> None:
    assert tuple(Family) == _FAMILIES
    assert tuple(ReadoutChoice) == _READOUTS


def test_placeholders_of_transformers_are_no_class_names(key: SecurityKey, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(ORACLES["hf_videomae"].path, tmp_path / "folder"))
    settings = json.loads((folder / "config.json").read_text())
    for first, named in (("LABEL_0", False), ("waving", True)):
        settings["id2label"] = {"0": first, **{str(i): f"LABEL_{i}" for i in range(1, 5)}}
        (folder / "config.json").write_text(json.dumps(settings))
        names = [a.value for a in export(folder, tmp_path / first, key=key).assumptions if a.fact is Fact.CLASS_NAMES]
        assert names == ([] if named else ["LABEL_0 to LABEL_4"])


def test_family_readout_and_weights_are_options(key_file: Path, tmp_path: Path) -> None:
    content = content_of("mvd_class_token_read")
    path = saved(tmp_path, {"ema": content["model"]})
    told = ("--num-heads", 2, "--frames", 8, "--size", 32, "--family", "mvd", "--readout", "first-token")
    args = ("--key", key_file, "--ckpt", path)
    run_ok("export", *args, *told, "--weights", "ema", "-o", tmp_path / "out")
    shown = run_ok("inspect", tmp_path / "out")
    assert not any(f"{fact}:" in shown for fact in ("family", "readout", "positions", "weights"))
    assert "parity: ok" in run_ok("verify", tmp_path / "out", *args, "--family", "mvd", "--readout", "first-token")
    assert "it says it itself" not in run_error("export", *args, *told, "--weights", "other", "-o", tmp_path / "no")
    folder = ORACLES["hf_videomae"].path
    refused = run_error("export", "--key", key_file, "--ckpt", folder, "--family", "mvd", "-o", tmp_path / "no")
    assert "--family" in refused
    assert "folder" in refused


# Readout


def unpooled() -> Weights:
    return dict(read_pickled(ORACLES["v1_first_token"].path)["model"])


def test_norm_without_fc_norm_is_refused_unless_told(tmp_path: Path) -> None:
    path = ORACLES["v1_first_token"].path
    with pytest.raises(CheckpointError, match="norm but no fc_norm") as caught:
        load_checkpoint(path, OPTIONS)
    assert "--readout first-token" in caught.value.hint
    said = {"model": unpooled(), "args": argparse.Namespace(use_mean_pooling=False)}
    assert facts(saved(tmp_path, said))[Fact.READOUT] == "token 0, as the arguments say"


@pytest.mark.parametrize("value", [True, None, 0, "no"])
def test_other_values_do_not_say_that_a_token_is_read(tmp_path: Path, value: object) -> None:
    content = {"model": unpooled(), "args": argparse.Namespace(use_mean_pooling=value)}
    with pytest.raises(CheckpointError, match="norm but no fc_norm"):
        load_checkpoint(saved(tmp_path, content), OPTIONS)


@pytest.mark.parametrize(
    ("name", "told"), [("v1_model_args", ReadoutChoice.FIRST_TOKEN), ("v1_first_token", ReadoutChoice.MEAN)]
)
def test_a_readout_that_the_norm_contradicts_is_refused(name: str, told: ReadoutChoice) -> None:
    with pytest.raises(CheckpointError, match=f"--readout {told}"):
        load_checkpoint(ORACLES[name].path, CheckpointOptions(heads=3, frames=8, size=32, readout=told))


@pytest.mark.parametrize(
    "arguments", [{"val_freq": 2}, {"close_amp": False}, {"data_set": "ava"}, {"data_set": "AVA_v2.2"}]
)
def test_detectors_are_refused_with_the_reason(tmp_path: Path, arguments: dict[str, Any]) -> None:
    content = {"model": unpooled(), "args": argparse.Namespace(use_mean_pooling=False, **arguments)}
    told = CheckpointOptions(heads=3, frames=8, size=32, readout=ReadoutChoice.FIRST_TOKEN)
    with pytest.raises(UnsupportedModelError, match="detector for AVA"):
        load_checkpoint(saved(tmp_path, content), told)


def test_classifiers_with_an_argument_of_detectors_are_read(tmp_path: Path) -> None:
    """A detector has no fc_norm."""
    assert load_checkpoint(with_arguments(tmp_path, val_freq=2), OPTIONS).model.config.readout is Readout.MEAN


def test_detectors_are_known_by_their_regions(tmp_path: Path) -> None:
    content = {"model": {**weights(), "roi_heads.action.predictor.cls_score.weight": torch.zeros(2)}}
    with pytest.raises(UnsupportedModelError, match="regions of a frame"):
        load_checkpoint(saved(tmp_path, content), OPTIONS)


# Heads


def of_width(width: int, depth: int = 1, patch: tuple[int, int] = (16, 16)) -> Weights:
    """An official file of any width, its MLP one wide; values do not matter here."""
    block = {
        "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
        "attn.qkv.weight": (3 * width, width), "attn.q_bias": (width,), "attn.v_bias": (width,),
        "attn.proj.weight": (width, width), "attn.proj.bias": (width,), "mlp.fc1.weight": (1, width),
        "mlp.fc1.bias": (1,), "mlp.fc2.weight": (width, 1), "mlp.fc2.bias": (width,),
    }  # fmt: skip
    outer = {
        "patch_embed.proj.weight": (width, 3, 2, *patch), "patch_embed.proj.bias": (width,),
        "fc_norm.weight": (width,), "fc_norm.bias": (width,), "head.weight": (2, width), "head.bias": (2,),
    }  # fmt: skip
    shapes = {**outer, **{f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}}
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1280, 16), (1408, 16)])
def test_official_widths_have_their_head_counts(tmp_path: Path, width: int, heads: int) -> None:
    loaded = load_checkpoint(saved(tmp_path, of_width(width)), CheckpointOptions(frames=2, size=16))
    assert loaded.model.config.heads == heads
    (assumed,) = (a for a in loaded.assumptions if a.fact is Fact.HEADS)
    assert (assumed.value, assumed.option) == (f"{heads}, by the width {width}", "--num-heads")


def test_a_registered_name_says_heads_and_size(tmp_path: Path) -> None:
    content = {"model": of_width(384, depth=12), "args": argparse.Namespace(model="vit_small_patch16_384")}
    loaded = load_checkpoint(saved(tmp_path, content), CheckpointOptions(frames=2))
    assert (loaded.model.config.heads, loaded.model.config.geometry.height) == (6, 384)
    assert not {Fact.HEADS, Fact.SIZE} & {a.fact for a in loaded.assumptions}


@pytest.mark.parametrize("model", ["vit_small_patch16_384", "vit_base_patch16_224", "resnet50", None, 7])
def test_a_name_of_another_model_says_nothing(tmp_path: Path, model: object) -> None:
    content = {"model": of_width(384), "args": argparse.Namespace(model=model)}
    assert {Fact.HEADS, Fact.SIZE} <= set(facts(saved(tmp_path, content), CheckpointOptions(frames=2)))


@pytest.mark.parametrize("patch", [(16, 8), (8, 16)])
def test_a_registered_name_is_of_square_cubes(tmp_path: Path, patch: tuple[int, int]) -> None:
    model = argparse.Namespace(model="vit_small_patch16_384")
    content = {"model": of_width(384, depth=12, patch=patch), "args": model}
    assert Fact.HEADS in facts(saved(tmp_path, content), CheckpointOptions(frames=2, size=16))


@pytest.mark.parametrize("patch", [(8, 16), (16, 8), (8, 4)])
def test_learned_positions_say_the_frames_for_cubes_of_any_sides(tmp_path: Path, patch: tuple[int, int]) -> None:
    per_frame = 16 // patch[0] * (16 // patch[1])
    content = of_width(384, patch=patch) | {"pos_embed": torch.zeros(1, 3 * per_frame, 384)}
    loaded = load_checkpoint(saved(tmp_path, content), CheckpointOptions(size=16))
    assert str(loaded.model.config.geometry) == f"6x16x16x3/2x{patch[0]}x{patch[1]}"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 5, 384), "has 5 learned positions, but a clip of 16x16x16x3/2x8x16 has"),
        ((384,), "received pos_emb"),
    ],
)
def test_learned_positions_that_fit_no_clip_are_refused(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    content = of_width(384, patch=(8, 16)) | {"pos_embed": torch.zeros(shape)}
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved(tmp_path, content), CheckpointOptions(size=16))


# Wrappers


@pytest.mark.parametrize(
    "wrapper", ["model_state", "model_state_dict", "net", "network", "anything", "state.model", "model.module", "a.b.c"]
)
def test_wrappers_are_found(tmp_path: Path, wrapper: str) -> None:
    content: dict[str, Any] = weights()
    for name in reversed(wrapper.split(".")):
        content = {name: content}
    assert Fact.WEIGHTS not in facts(saved(tmp_path, content))


@pytest.mark.parametrize(
    "name",
    [
        "model_ema",
        "ema",
        "ema_state_dict",
        "state_dict_ema",
        "ema_model",
        "ema.module",
        "swa",
        "EMA",
        "modelEma",
        "shadow_params",
    ],
)
def test_an_average_that_is_taken_is_named(tmp_path: Path, name: str) -> None:
    content: dict[str, Any] = weights()
    for part in reversed(name.split(".")):
        content = {part: content}
    assert facts(saved(tmp_path, content))[Fact.WEIGHTS].startswith(f"{name!r}, a moving average (EMA)")


def moved(state: Weights) -> Weights:
    return {name: tensor + 0.25 for name, tensor in state.items()}


@pytest.mark.parametrize(("other", "taken"), [("model_ema", "model"), ("ema", "model"), ("state_dict", "model")])
def test_of_two_sets_of_weights_the_one_taken_is_named(tmp_path: Path, other: str, taken: str) -> None:
    path = saved(tmp_path, {other: moved(weights()), "model": weights()})
    value = facts(path)[Fact.WEIGHTS]
    assert value == f"{taken!r}; the file also has {other!r}"
    bias = weights()["head.bias"].numpy()
    np.testing.assert_array_equal(load_checkpoint(path, OPTIONS).model.weights["head.bias"], bias)
    told = CheckpointOptions(heads=3, frames=8, size=32, weights=other)
    np.testing.assert_allclose(load_checkpoint(path, told).model.weights["head.bias"], bias + 0.25)
    assert Fact.WEIGHTS not in facts(path, told)


def test_sets_of_weights_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"student": weights(), "teacher": weights()})
    with pytest.raises(CheckpointError, match="'student', 'teacher'") as caught:
        load_checkpoint(path, OPTIONS)
    assert "--weights" in caught.value.hint
    with pytest.raises(CheckpointError, match="no weights 'third'") as caught:
        load_checkpoint(path, CheckpointOptions(weights="third"))
    assert "'student', 'teacher'" in caught.value.hint


def test_an_average_beside_the_weights_in_one_dictionary_is_told(tmp_path: Path) -> None:
    """As Lightning saves a module that has both."""
    state = {f"model.{n}": t for n, t in weights().items()} | {f"model_ema.{n}": t for n, t in moved(weights()).items()}
    path = saved(tmp_path, {"state_dict": state})
    value = facts(path, CheckpointOptions(heads=3, frames=8, size=32, weights="state_dict.model"))
    assert Fact.WEIGHTS not in value
    assert facts(path)[Fact.WEIGHTS] == "'state_dict.model'; the file also has 'state_dict.model_ema'"


@pytest.mark.parametrize(
    ("front", "infix"),
    [
        ("net.", ""),
        ("_fsdp_wrapped_module.", ""),
        ("module.net.", ""),
        ("_fsdp_wrapped_module._orig_mod.model.", ""),
        ("", "_checkpoint_wrapped_module."),
        ("_fsdp_wrapped_module._fpw_module.", ""),
        ("_fsdp_wrapped_module.", "_fsdp_wrapped_module._checkpoint_wrapped_module."),
    ],
)
def test_what_wraps_modules_is_taken_off_their_names(tmp_path: Path, clip: np.ndarray, front: str, infix: str) -> None:
    state = {front + name.replace("blocks.0.", f"blocks.0.{infix}"): tensor for name, tensor in weights().items()}
    model = load_checkpoint(saved(tmp_path, {"model": state}), OPTIONS).model
    np.testing.assert_allclose(
        BuiltinReference(model).logits(clip[None])[0], ORACLES["v1_model_args"].logits, atol=1e-6
    )


def test_counters_of_an_average_are_no_weights(tmp_path: Path) -> None:
    module = torch.nn.Module()
    averaged = torch.optim.swa_utils.AveragedModel(module)
    state = {**{f"module.{name}": tensor for name, tensor in weights().items()}, **averaged.state_dict()}
    assert state["n_averaged"].dtype == torch.int64
    assert "moving average" in facts(saved(tmp_path, {"model": state}))[Fact.WEIGHTS]


def test_flattened_weights_are_refused_with_the_reason(tmp_path: Path) -> None:
    state = {**weights(), "blocks.0._fsdp_wrapped_module._flat_param": torch.zeros(9)}
    with pytest.raises(CheckpointError, match="flattened form of FSDP"):
        load_checkpoint(saved(tmp_path, state), OPTIONS)


def test_other_whole_numbers_are_named(tmp_path: Path) -> None:
    state = {**weights(), "queue_ptr": torch.zeros(1, dtype=torch.int64)}
    with pytest.raises(CheckpointError, match="queue_ptr"):
        load_checkpoint(saved(tmp_path, {"model": state}), OPTIONS)


def test_an_audit_knows_the_positions_of_a_reference() -> None:
    geometry = ClipGeometry.parse("8x32x32x3/2x8x8")
    found = load_outer_weights(DATA / "mvd_plain.pth", geometry)["positional_encoding"]
    expected = load_checkpoint(DATA / "mvd_plain.pth", options_of("mvd_plain")).model.weights["positional_encoding"]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("prefix", ["vit.", "student.", "module.video_encoder.", "teacher.backbone.", "video.tower."])
def test_a_prefix_that_no_table_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    for whole in (True, False):  # with the head inside, and beside it
        state = {
            n if n.startswith("head.") and not whole else f"{prefix}{n}": tensor for n, tensor in weights().items()
        }
        model = load_checkpoint(saved(tmp_path, {"model": state}), OPTIONS).model
        logits = BuiltinReference(model).logits(np.load(ORACLE / "clip_8x32x32.npy")[None])[0]
        np.testing.assert_allclose(logits, ORACLES["v1_model_args"].logits, atol=1e-6)


def test_an_average_that_only_a_prefix_names_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {"model": {f"model_ema.{name}": tensor for name, tensor in weights().items()}})
    assert "a moving average (EMA)" in facts(path)[Fact.WEIGHTS]


def test_weights_of_one_name_within_a_prefix_and_beside_it_are_refused(tmp_path: Path) -> None:
    state = {f"vit.{name}": tensor for name, tensor in weights().items()} | {"head.bias": torch.zeros(5)}
    with pytest.raises(CheckpointError, match="two weights of the same name"):
        load_checkpoint(saved(tmp_path, state), OPTIONS)


def test_weights_that_zero_has_saved_elsewhere_are_refused_with_the_reason(tmp_path: Path) -> None:
    state = {name: torch.empty(0) for name in weights()}
    with pytest.raises(CheckpointError, match="ZeRO stage 3") as caught:
        load_checkpoint(saved(tmp_path, {"module": state, "ds_config": {}}), OPTIONS)
    assert "zero_to_fp32.py" in caught.value.hint


def test_a_file_without_weights_says_what_it_has(tmp_path: Path) -> None:
    content = {"optimizer_state_dict": {"fp32_groups": [torch.ones(4)]}, "ds_config": {}, "ds_version": "0.9"}
    with pytest.raises(CheckpointError, match=r"no weights in .*it has optimizer_state_dict, ds_config, ds_version"):
        load_checkpoint(saved(tmp_path, content), OPTIONS)


# Training arguments


@pytest.mark.parametrize("wrapper", ["checkpoint", "a.b"])
@pytest.mark.parametrize("above", [True, False])
def test_arguments_in_a_wrapper_are_read(tmp_path: Path, wrapper: str, above: bool) -> None:
    """The nearest ones count: those further out can be of another script."""
    content = dict(content_of("mvd_plain"))
    for name in reversed(wrapper.split(".")):
        content = {name: content}
    content |= {"args": argparse.Namespace(delete_head=False)} if above else {}
    loaded = load_checkpoint(saved(tmp_path, content), CheckpointOptions(heads=2))
    assert not {Fact.FAMILY, Fact.POSITIONS, Fact.READOUT} & {a.fact for a in loaded.assumptions}
    logits = BuiltinReference(loaded.model).logits(clip_of("mvd_plain")[None])[0]
    np.testing.assert_allclose(logits, EXPECTED["mvd_plain"]["logits"], atol=1e-6)


@pytest.mark.parametrize(
    "value", [Path("/data/run"), np.float64(0.5), torch.device("cpu"), torch.float16, {1, 2}, torch.ones(3)]
)
def test_arguments_of_any_plain_kind_stand_beside_the_others(tmp_path: Path, value: object) -> None:
    path = with_arguments(tmp_path, num_frames=np.int64(8), input_size=32, output_dir=value, num_segments=1)
    assert not {Fact.FRAMES, Fact.SIZE} & set(facts(path, CheckpointOptions(heads=3)))


@pytest.mark.parametrize("name", ["num_frames", "input_size", "num_segments", "data_set", "sparse_sample", "model"])
@pytest.mark.parametrize("value", [torch.ones(3), [8], {}, "8", 8.5, True, -1, 10**30], ids=str)
def test_arguments_of_another_kind_say_nothing(tmp_path: Path, name: str, value: object) -> None:
    load_checkpoint(with_arguments(tmp_path, **{name: value}), OPTIONS)


def test_a_short_side_below_the_clip_is_not_said(key: SecurityKey, tmp_path: Path) -> None:
    """No frame of it holds the clip."""
    for side, assumed in ((16, True), (32, False), (40, False)):
        loaded = load_checkpoint(with_arguments(tmp_path, short_side_size=side), OPTIONS)
        settings = client_of(loaded, key, ExportOptions(checkpoint=OPTIONS)).settings
        assert settings.preprocess.short_side == max(side, 32)
        notes = {a.fact: a.value for a in settings.assumptions}
        assert ("the arguments say 16" in notes.get(Fact.RESIZING, "")) is assumed
        assert (Fact.RESIZING in notes) is assumed


# Sampling

SAMPLED = [
    ("v2", {"data_set": "Kinetics-400", "sparse_sample": True}, Sampling.UNIFORM),
    ("v2", {"data_set": "Kinetics-400", "sparse_sample": False}, Sampling.KINETICS),
    ("v2", {"data_set": "MIT", "sparse_sample": True}, Sampling.UNIFORM),
    ("v2", {"data_set": "Kinetics-710", "sparse_sample": False}, Sampling.KINETICS),
    ("v2", {"data_set": "Kinetics-710", "sparse_sample": True}, None),
    ("v2", {"data_set": "Kinetics-400", "sparse_sample": "yes"}, None),
    ("v2", {"data_set": "Kinetics_sparse"}, None),
    ("v2", {"data_set": "SSV2", "sparse_sample": False}, Sampling.UNIFORM),
    ("v2", {}, None),
    ("umt", {"data_set": "Kinetics"}, Sampling.KINETICS),
    ("umt", {"data_set": "Kinetics_sparse"}, Sampling.UNIFORM),
    ("umt", {"data_set": "mitv1_sparse"}, Sampling.UNIFORM),
    ("umt", {"data_set": "SSV2"}, Sampling.UNIFORM),
    ("umt", {"data_set": "Kinetics-400"}, None),
    ("mvd", {"data_set": "SSV2"}, Sampling.UNIFORM),
    ("mvd", {"data_set": "HMDB51"}, Sampling.KINETICS),
    ("mvd", {"data_set": "image_folder"}, None),
    ("mvd", {"data_set": ["SSV2"]}, None),
    ("internvideo", {"data_set": "Kinetics-400", "sparse_sample": True}, Sampling.UNIFORM),
    ("internvideo", {"data_set": "MIT", "sparse_sample": True}, None),
    ("any", {"data_set": "Kinetics-400", "num_segments": 1}, Sampling.KINETICS),
    ("any", {"data_set": "Kinetics-400", "num_segments": np.int64(1)}, Sampling.KINETICS),
    ("any", {"data_set": "Kinetics-400", "num_segments": 2}, None),
    ("any", {"data_set": "SSV2", "num_segments": "1"}, None),
    ("any", {"sparse_sample": True}, Sampling.UNIFORM),
    ("any", {"data_set": "MIT", "sparse_sample": True}, Sampling.UNIFORM),
    ("any", {"data_set": "Kinetics_sparse"}, Sampling.UNIFORM),
    ("any", {"data_set": "Kinetics-600", "sparse_sample": 1}, None),
    ("any", {"data_set": "my_clips"}, None),
    ("internvideo", {"data_set": "ANet"}, None),
]
MARKS: dict[str, dict[str, Any]] = {
    "any": {},
    "v2": {"fname_tmpl": "", "start_idx": 1},
    "umt": {"delete_head": False},
    "mvd": {"use_cls_token": False},
    "internvideo": {"num_segment": 1},
}


@pytest.mark.parametrize(("family", "arguments", "sampling"), SAMPLED)
def test_sampling_is_what_the_codebase_makes_of_its_arguments(
    tmp_path: Path, family: str, arguments: dict[str, Any], sampling: Sampling | None
) -> None:
    state = content_of("umt_sinusoid")["model"] if family == "umt" else weights()
    options = CheckpointOptions(heads=2, frames=8, size=224) if family == "umt" else OPTIONS
    path = saved(tmp_path, {"model": state, "args": argparse.Namespace(**MARKS[family], **arguments)})
    said = load_checkpoint(path, options).preprocessing
    assert said.sampling is sampling
    assert bool(said.doubt) == (sampling is None and bool(arguments))


def test_arguments_that_are_not_understood_are_an_assumption_that_says_so(key: SecurityKey, tmp_path: Path) -> None:
    path = with_arguments(tmp_path, **MARKS["v2"], data_set="Kinetics-600", sparse_sample=True, sampling_rate="4")
    result = export(path, tmp_path / "out", key=key, options=ExportOptions(checkpoint=OPTIONS))
    (sampling,) = (a for a in result.assumptions if a.fact is Fact.SAMPLING)
    assert sampling.value == (
        "kinetics, stride 4; sparse_sample=True does not apply to the data set Kinetics-600 of VideoMAEv2"
    )


def umt_sparse(total: int, frames: int) -> list[int]:
    """UMT, ``kinetics_sparse.py``, validation."""
    part = max(0.0, (total - 1) / frames)
    return [min(int(np.round(part * i)) + int(part / 2), total - 1) for i in range(frames)]


def umt_ssv2(total: int, frames: int) -> list[int]:
    """UMT, ``ssv2.py``, one segment of a test."""
    return [int(total / frames / 2.0 + total / frames * i) for i in range(frames)]


def v2_sparse(total: int, frames: int) -> list[list[int]]:
    """VideoMAEv2, ``datasets.py``, sparse sampling in a test: the frames of 10 temporal views."""
    tick = total / float(frames)
    return [[int(view * tick / 10 + tick * i) for i in range(frames)] for view in range(10)]


@pytest.mark.parametrize("frames", [8, 16])
@pytest.mark.parametrize("total", [16, 17, 31, 64, 100, 300, 301])
def test_uniform_frames_are_those_of_the_codebases(total: int, frames: int) -> None:
    plan = Preprocess(frames=frames, sampling=Sampling.UNIFORM, short_side=224, crop=(224, 224))
    (ours,) = frame_indices(total, plan, 1)
    assert ours == umt_ssv2(total, frames)
    assert all(abs(a - b) <= 2 for a, b in zip(ours, umt_sparse(total, frames), strict=True))
    before, after = v2_sparse(total, frames)[4], v2_sparse(total, frames)[6]
    assert all(a <= middle <= b for a, middle, b in zip(before, ours, after, strict=True))


def test_the_committed_sparse_sample_takes_the_middle_of_each_part() -> None:
    loaded = load_checkpoint(DATA / "v2_sparse_sample.pth", CheckpointOptions(heads=3))
    assert loaded.preprocessing.sampling is Sampling.UNIFORM
    plan = Preprocess(frames=8, sampling=Sampling.UNIFORM, short_side=32, crop=(32, 32))
    assert frame_indices(80, plan, 1) == [[5, 15, 25, 35, 45, 55, 65, 75]]
