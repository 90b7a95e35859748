"""What config.json says, setting by setting, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import CheckpointOptions, ClipGeometry
from lcve_deploy.errors import CheckpointError, UnsupportedModelError
from lcve_deploy.exporters.checkpoints.huggingface import (
    FAMILIES,
    FolderModel,
    _agreed,
    _architecture,
    _classes,
    _config,
    _family,
    _require_configuration,
    _settings,
    class_names,
    problem_type,
)
from lcve_deploy.exporters.checkpoints.processors import Processor
from lcve_deploy.model.predictions import ProblemType
from lcve_deploy.model.transformer import Readout, TransformerConfig

NOTHING = CheckpointOptions()


def configuration(
    model_type: str = "videomae", options: CheckpointOptions = NOTHING, /, **settings: Any
) -> TransformerConfig:
    family = FAMILIES[model_type]
    name = next(iter(family.architectures))
    return _config(FolderModel(family, name, family.architectures[name], _settings(settings, family)), options)


def problem(model_type: str = "videomae", /, **settings: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        configuration(model_type, **settings)
    return str(caught.value)


def test_defaults_are_those_of_videomae() -> None:
    made = configuration()
    assert made.geometry == ClipGeometry.parse("16x224x224x3/2x16x16")
    assert (made.width, made.depth, made.heads, made.hidden, made.classes) == (768, 12, 12, 3072, 2)
    assert (made.block_eps, made.final_eps, made.readout, made.qkv_bias) == (1e-12, 1e-5, Readout.MEAN, True)


def test_defaults_are_those_of_vivit() -> None:
    made = configuration("vivit")
    assert made.geometry == ClipGeometry.parse("32x224x224x3/2x16x16")
    assert (made.width, made.depth, made.heads, made.hidden, made.classes) == (768, 12, 12, 3072, 2)
    assert (made.block_eps, made.final_eps, made.readout, made.qkv_bias) == (1e-6, 1e-6, Readout.CLASS_TOKEN, True)


def test_without_the_mean_the_first_token_is_read_and_its_norm_is_that_of_the_blocks() -> None:
    made = configuration(use_mean_pooling=False, layer_norm_eps=1e-6)
    assert (made.readout, made.final_eps) == (Readout.FIRST_CUBE, 1e-6)
    assert configuration("vivit", use_mean_pooling=True).readout is Readout.CLASS_TOKEN
    assert configuration(qkv_bias=False).qkv_bias is False


@pytest.mark.parametrize("name", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "12", None])
def test_sizes_are_whole_numbers_above_zero(name: str, value: object) -> None:
    assert problem(**{name: value}) == f"config.json: expected a positive integer for {name}, received {value!r}"


@pytest.mark.parametrize("name", ["num_frames", "num_channels", "num_labels"])
def test_sizes_of_clips_and_logits_are_too(name: str) -> None:
    assert problem(**{name: 0}) == f"config.json: expected a positive integer for {name}, received 0"
    if name != "num_channels":
        configuration(**{name: 2})


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_clips_have_three_channels(channels: int) -> None:
    assert problem(num_channels=channels).endswith(f"RGB clips with 3 channels, received one for {channels}")


@pytest.mark.parametrize("value", [-1e-9, 1, True, "1e-6", None])
def test_an_epsilon_is_from_0_to_1(value: object) -> None:
    assert problem(layer_norm_eps=value).endswith(
        f"expected a number from 0 to 1 for layer_norm_eps, received {value!r}"
    )


def test_an_epsilon_can_be_zero() -> None:
    assert configuration(layer_norm_eps=0).block_eps == 0


@pytest.mark.parametrize("name", ["qkv_bias", "use_mean_pooling"])
@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_switches_are_true_or_false(name: str, value: object) -> None:
    assert problem(**{name: value}) == f"config.json: expected true or false for {name}, received {value!r}"


@pytest.mark.parametrize("name", ["image_size", "patch_size"])
@pytest.mark.parametrize("value", [0, -16, "16", [16], [16, 16, 16], [16, 0], [0, 16], [16, "16"], None])
def test_pairs_are_one_or_two_sizes(name: str, value: object) -> None:
    assert problem(**{name: value}) == f"config.json: expected one or two sizes for {name}, received {value!r}"


@pytest.mark.parametrize(
    ("settings", "clip"),
    [
        ({"image_size": [64, 96]}, "16x64x96x3/2x16x16"),
        ({"patch_size": [8, 32]}, "16x224x224x3/2x8x32"),
        ({"tubelet_size": 4}, "16x224x224x3/4x16x16"),
        ({"tubelet_size": [4, 8, 32]}, "16x224x224x3/4x8x32"),
        ({"tubelet_size": (4, 8, 32)}, "16x224x224x3/4x8x32"),
        ({"num_channels": 3, "num_frames": 8}, "8x224x224x3/2x16x16"),
        ({"image_size": 1, "patch_size": 1}, "16x1x1x3/2x1x1"),
    ],
)
def test_clips_and_cubes(settings: dict[str, Any], clip: str) -> None:
    assert configuration(**settings).geometry == ClipGeometry.parse(clip)


@pytest.mark.parametrize("value", [[2, 16], [2, 16, 16, 3], [2, 16, "16"], "216", None, 2.0])
def test_a_tubelet_that_is_no_cube(value: object) -> None:
    assert problem(tubelet_size=value).endswith(f"a tubelet_size like 2 or [2, 16, 16], received {value!r}")
    assert problem("vivit", tubelet_size=value).endswith(f"a tubelet_size like [2, 16, 16], received {value!r}")


def test_a_number_is_no_tubelet_without_a_patch_size() -> None:
    assert problem("vivit", tubelet_size=2).endswith("a tubelet_size like [2, 16, 16], received 2")
    assert configuration("vivit", tubelet_size=2, patch_size=16).geometry.cube == (2, 16, 16)


def test_cubes_that_do_not_fill_the_clip_are_refused() -> None:
    assert problem(image_size=225).startswith("config.json: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 6}, "--num-heads 6, the folder says 12"),
        ({"frames": 8}, "--frames 8, the folder says 16"),
        ({"size": 112}, "--size 112, the folder says 224"),
        ({"heads": 6, "size": 112}, "--num-heads 6, the folder says 12; --size 112, the folder says 224"),
    ],
)
def test_options_that_contradict_a_folder(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=f"contradict config.json: {message}; positions are not interpolated"):
        configuration("videomae", CheckpointOptions(**options))


def test_options_that_say_the_same() -> None:
    configuration("videomae", CheckpointOptions(heads=12, frames=16, size=224))


def test_unknown_activations_are_named() -> None:
    with pytest.raises(UnsupportedModelError, match="the activation 'mish' is unknown") as caught:
        configuration(hidden_act="mish")
    assert "gelu, " in caught.value.hint


def test_the_classifier_has_as_many_classes_as_it_has_rows() -> None:
    head = {"classifier.weight": np.zeros((5, 3))}
    assert _classes({}, head) == 5
    assert _classes({"num_labels": None}, head) == 5
    assert _classes({"num_labels": 7}, head) == 7
    assert _classes({}, {}) == 2
    assert _classes({}, {"classifier.weight": np.zeros(5)}) == 2


def test_architectures() -> None:
    family = FAMILIES["videomae"]
    (known,) = family.architectures
    assert _family({"model_type": "videomae"}) is family
    for said in (None, [], ["other", known]):
        assert _architecture({"architectures": said}, family) == known
    with pytest.raises(UnsupportedModelError, match=f"expected {known}, received a, b"):
        _architecture({"architectures": ["a", "b"]}, family)
    with pytest.raises(CheckpointError, match=f"expected a list of architectures, received '{known}'"):
        _architecture({"architectures": known}, family)
    with pytest.raises(UnsupportedModelError, match="a model of type 'None'"):
        _family({})


def folder(place: Path, **settings: Any) -> Path:
    (place / "config.json").write_text(json.dumps(settings))
    return place


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        ({"0": "a", "1": "b"}, 2, ("a", "b")),
        ({"1": "b", "0": "a"}, 2, ("a", "b")),
        ({"0": "a", "1": 7}, 2, ("a", "7")),
        ({"0": "a", "1": "b"}, 3, None),
        ({"0": "a", "1": "b", "2": "c"}, 2, None),
        ({"1": "a", "2": "b"}, 2, None),
        ({"0": "a", "1": None}, 2, None),
        ({"0": "a", "1": True}, 2, None),
        (["a", "b"], 2, None),
        (None, 2, None),
    ],
)
def test_class_names(tmp_path: Path, labels: object, classes: int, names: tuple[str, ...] | None) -> None:
    assert class_names(folder(tmp_path, id2label=labels), classes) == names


def test_problem_types(tmp_path: Path) -> None:
    assert problem_type(folder(tmp_path)) is None
    assert problem_type(folder(tmp_path, problem_type=None)) is None
    for kind in ProblemType:
        assert problem_type(folder(tmp_path, problem_type=str(kind))) is kind
    with pytest.raises(CheckpointError, match=f"received '{'x' * 79}$"):
        problem_type(folder(tmp_path, problem_type="x" * 300))


def test_what_is_no_folder_of_a_model(tmp_path: Path) -> None:
    _require_configuration(tmp_path)
    for name in ("b.pth", "c.pt", "a.bin"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"it has no config\.json") as caught:
        _require_configuration(tmp_path)
    assert caught.value.hint.endswith("b.pth")
    _require_configuration(folder(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="has an adapter"):
        _require_configuration(tmp_path)


def test_processors_must_agree() -> None:
    one, same, other = (
        Processor(Path(name), {"size": size}, "VideoMAEImageProcessor")
        for name, size in (("a", 240), ("b", 240), ("c", 256))
    )

    def read(processor: Processor) -> object:
        return processor.framing((224, 224))

    assert _agreed("resize", (), read) is None
    assert _agreed("resize", (one,), read) == read(one)
    assert _agreed("resize", (one, same), read) == read(one)
    for group, second in (((one, other), "c"), ((one, same, other), "c"), ((other, one), "a")):
        first = group[0].path.name
        with pytest.raises(CheckpointError, match=f"^{first} and {second} disagree about how to resize: "):
            _agreed("resize", group, read)
