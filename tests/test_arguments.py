"""What pickled arguments say, argument by argument, without a file."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pytest

from lcve_deploy.exporters.checkpoints.arguments import (
    NamedModel,
    is_detector,
    named_model,
    stated_families,
    stated_frames,
    stated_preprocessing,
    stated_size,
    training_arguments,
)
from lcve_deploy.exporters.checkpoints.families import Family
from lcve_deploy.files.reading import MAX_INT
from lcve_deploy.model.preprocess import MAX_SHORT_SIDE, Sampling

ARGUMENTS = {"num_frames": 8}
OUTER = {"num_frames": 16}


@pytest.mark.parametrize(
    ("content", "place", "arguments"),
    [
        ({}, "", {}),
        ({"args": ARGUMENTS}, "", ARGUMENTS),
        ({"args": argparse.Namespace(**ARGUMENTS)}, "model", ARGUMENTS),
        ({"args": "text"}, "", {}),
        ({"args": {}}, "", {}),
        ({"args": OUTER, "a": {"args": ARGUMENTS, "b": {}}}, "a.b", ARGUMENTS),
        ({"args": OUTER, "a": {"args": {}, "b": {"args": ARGUMENTS}}}, "a.b", ARGUMENTS),
        ({"args": OUTER, "a": {"args": {}, "b": {"args": ARGUMENTS}}}, "a", OUTER),
        ({"args": OUTER, "a": "text"}, "a.b", OUTER),
        ({"a": {"args": ARGUMENTS}}, "", {}),
    ],
)
def test_the_nearest_arguments_are_taken(content: Any, place: str, arguments: dict[str, int]) -> None:
    assert training_arguments(content, place) == arguments


@pytest.mark.parametrize(
    ("names", "families"),
    [
        ((), []),
        (("num_frames",), []),
        (("start_idx",), [Family.VIDEOMAE_V2]),
        (("remove_pos_emb", "num_frames"), [Family.MVD]),
        (("test_best",), [Family.UMT]),
        (("extra_decay",), [Family.INTERNVIDEO]),
        (("test_best", "start_idx"), [Family.VIDEOMAE_V2, Family.UMT]),
    ],
)
def test_arguments_of_one_codebase_name_it(names: tuple[str, ...], families: list[Family]) -> None:
    assert stated_families(dict.fromkeys(names)) == families


@pytest.mark.parametrize("data_set", ["AVA", "ava_v2.2", "my-ava", "AVA-Kinetics"])
def test_detectors_are_known_by_their_data_set(data_set: str) -> None:
    assert is_detector({"data_set": data_set})


@pytest.mark.parametrize("arguments", [{}, {"data_set": "Java"}, {"data_set": "avatar"}, {"data_set": "SSV2"}])
def test_others_are_no_detectors(arguments: dict[str, str]) -> None:
    assert not is_detector(arguments)


@pytest.mark.parametrize("name", ["val_freq", "close_amp"])
def test_detectors_are_known_by_their_arguments(name: str) -> None:
    assert is_detector({name: None})


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("vit_small_patch16_224", NamedModel(width=384, depth=12, heads=6, patch=16, size=224)),
        ("vit_base_patch16_224", NamedModel(width=768, depth=12, heads=12, patch=16, size=224)),
        ("vit_large_patch14_336", NamedModel(width=1024, depth=24, heads=16, patch=14, size=336)),
        ("vit_huge_patch16_320", NamedModel(width=1280, depth=32, heads=16, patch=16, size=320)),
        ("vit_giant_patch14_224", NamedModel(width=1408, depth=40, heads=16, patch=14, size=224)),
        ("vit_base_patch16_224_more", None),
        ("vit_tiny_patch16_224", None),
        (None, None),
    ],
)
def test_registered_models(model: object, named: NamedModel | None) -> None:
    assert named_model({"model": model}) == named


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [
        ({}, None),
        ({"num_frames": 8}, 8),
        ({"num_frames": 8, "num_segments": 3}, 24),
        ({"num_frames": 8, "num_segments": 0}, 8),
        ({"num_segments": 3}, None),
    ],
)
def test_frames_are_those_of_a_segment_times_the_segments(arguments: dict[str, int], frames: int | None) -> None:
    assert stated_frames(arguments) == frames


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (224, 224),
        (1, 1),
        (np.int64(160), 160),
        (MAX_INT, MAX_INT),
        (MAX_INT + 1, None),
        (0, None),
        (-1, None),
        (True, None),
        (224.0, None),
        ("224", None),
        (None, None),
    ],
)
def test_whole_numbers_above_zero(value: object, size: int | None) -> None:
    assert stated_size({"input_size": value}) == size


@pytest.mark.parametrize(("side", "taken"), [(256, 256), (MAX_SHORT_SIDE, MAX_SHORT_SIDE), (MAX_SHORT_SIDE + 1, None)])
def test_short_side_and_stride(side: int, taken: int | None) -> None:
    said = stated_preprocessing({"short_side_size": side, "sampling_rate": 4})
    assert (said.short_side, said.stride, said.sampling, said.doubt) == (taken, 4, None, "")
    assert stated_preprocessing({}).short_side is None


V2, UMT, INTERNVIDEO = ({name: None} for name in ("start_idx", "test_best", "extra_decay"))


@pytest.mark.parametrize(
    ("arguments", "sampling"),
    [
        ({}, None),
        ({"data_set": "Kinetics-400"}, Sampling.KINETICS),
        ({"data_set": "SSV2"}, Sampling.UNIFORM),
        ({"data_set": "SSV2", "sparse_sample": True}, Sampling.UNIFORM),
        ({"data_set": "Kinetics-400", "sparse_sample": True}, Sampling.UNIFORM),
        ({"sparse_sample": True}, Sampling.UNIFORM),
        ({"sparse_sample": False}, None),
        ({"data_set": "Kinetics-400", "num_segments": 1}, Sampling.KINETICS),
        (V2 | {"data_set": "MIT", "sparse_sample": True}, Sampling.UNIFORM),
        (UMT | {"data_set": "Kinetics_sparse"}, Sampling.UNIFORM),
        (UMT | {"data_set": "Kinetics"}, Sampling.KINETICS),
        (INTERNVIDEO | {"sparse_sample": True}, Sampling.UNIFORM),
    ],
)
def test_sampling_that_is_said(arguments: dict[str, Any], sampling: Sampling | None) -> None:
    said = stated_preprocessing(arguments)
    assert (said.sampling, said.doubt) == (sampling, "")


@pytest.mark.parametrize(
    ("arguments", "doubt"),
    [
        ({"data_set": "Sports"}, "'Sports' is not a data set of a known codebase"),
        ({"data_set": ["SSV2"]}, "['SSV2'] is not a data set of a known codebase"),
        ({"data_set": "x" * 300}, f"'{'x' * 79} is not a data set"),
        (UMT | {"data_set": "Kinetics-400"}, "'Kinetics-400' is not a data set of UMT"),
        (V2 | UMT | {"data_set": "Sports"}, "'Sports' is not a data set of a known codebase"),
        ({"data_set": "SSV2", "num_segments": 2}, "num_segments=2 is not 1"),
        ({"data_set": "SSV2", "num_segments": "1"}, "num_segments='1' is not 1"),
        ({"data_set": "SSV2", "num_segments": "x" * 300}, f"num_segments='{'x' * 79} is not 1"),
        (
            {"data_set": "Kinetics-400", "sparse_sample": 1},
            "sparse_sample=1 does not apply to the data set Kinetics-400 of a",
        ),
        ({"data_set": "Kinetics-400", "sparse_sample": "x" * 300}, f"sparse_sample='{'x' * 79} does not apply to"),
        (
            V2 | {"data_set": "UCF101", "sparse_sample": True},
            "sparse_sample=True does not apply to the data set UCF101 of Vid",
        ),
        (
            UMT | {"data_set": "Kinetics", "sparse_sample": True},
            "sparse_sample=True does not apply to the data set Kinetics",
        ),
    ],
)
def test_sampling_that_is_not_understood(arguments: dict[str, Any], doubt: str) -> None:
    said = stated_preprocessing(arguments)
    assert said.sampling is None
    assert said.doubt.startswith(doubt)
