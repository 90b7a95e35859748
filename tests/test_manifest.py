"""``manifest.json`` without a model: every field is read back, and what is wrong is named with its place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact.digests import MANIFEST as NAME
from lcve_deploy.artifact.manifest import manifest_bytes, parse_manifest, read_manifest, write_manifest
from lcve_deploy.artifact.model_spec import TensorSpec
from lcve_deploy.artifact.signature import PublicKey
from lcve_deploy.clips import Layout
from lcve_deploy.errors import ArtifactError, MismatchError, SignatureError
from lcve_deploy.geometry import ClipGeometry

from .manifests import KEY_REF, MANIFEST

PLACE = Path("somewhere/manifest.json")


def problems(*path: str, value: Any) -> str:
    """What is said of a manifest with one value changed."""
    content = json.loads(manifest_bytes(MANIFEST))
    place = content
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ArtifactError) as caught:
        parse_manifest(json.dumps(content).encode(), PLACE)
    return str(caught.value)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST
    assert (tmp_path / NAME).read_bytes() == manifest_bytes(MANIFEST)


def test_people_can_read_the_file() -> None:
    lines = manifest_bytes(MANIFEST).decode().splitlines(keepends=True)
    assert lines[:2] == ["{\n", '  "format": 2,\n']
    assert lines[-1] == "}\n"


def test_the_length_of_the_logits_is_the_number_of_classes() -> None:
    assert MANIFEST.classes == 5
    assert dataclasses.replace(MANIFEST.model, output=TensorSpec(name="", dtype="", shape=(None, None))).classes == 0


def test_a_clip_of_one_cube_has_sizes_of_one() -> None:
    model = dataclasses.replace(
        MANIFEST.model,
        geometry=ClipGeometry.parse("2x8x8x3/2x8x8"),
        input=dataclasses.replace(MANIFEST.input, shape=(None, 1, 384)),
    )
    one = dataclasses.replace(MANIFEST, model=model)
    assert parse_manifest(manifest_bytes(one), PLACE) == one


def test_under_a_pinned_key_a_manifest_has_a_signature(tmp_path: Path) -> None:
    write_manifest(tmp_path, MANIFEST)
    with pytest.raises(SignatureError, match="is not signed"):
        read_manifest(tmp_path, PublicKey(raw=bytes(32)))


@pytest.mark.parametrize("shape", [[], [5], [None], [None, 5, 5], [1, 5], [5, None], [None, None]])
def test_an_output_that_is_no_batch_of_logits_is_refused(shape: list[int | None]) -> None:
    message = problems("output", "shape", value=shape)
    assert f"output: expected float32 [null, classes], received float32 {shape}" in message


@pytest.mark.parametrize("size", ["5", 5.5, [5], True, 0])
def test_an_output_of_another_size_than_a_number_is_refused(size: Any) -> None:
    assert "shape: expected sizes, and null for the batch" in problems("output", "shape", value=[None, size])


@pytest.mark.parametrize("size", [0, -1, "64", 1.5, [64]])
def test_sizes_are_whole_numbers_above_zero(size: object) -> None:
    assert "input.shape: expected sizes, and null for the batch" in problems("input", "shape", value=[None, size, 384])


@pytest.mark.parametrize("shape", [[1, 64, 384], [None, 64], [None, 64, 385], [None, 384, 64]])
def test_an_input_that_is_no_clip_is_refused(shape: list[int | None]) -> None:
    message = problems("input", "shape", value=shape)
    assert "input: a cubes clip of 8x32x32x3/2x8x8 is uint8 [None, 64, 384], received uint8" in message


def test_a_size_of_zero_bytes_is_a_size_and_one_below_is_none() -> None:
    assert MANIFEST.files["probe.safetensors"].bytes == 0
    assert "files.model.onnx.bytes: expected at least 0" in problems("files", "model.onnx", "bytes", value=-1)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("format",), 1, "format: expected 2, received 1; an older version of lcve-deploy wrote this"),
        (("format",), 3, "format: expected 2, received 3; a newer version"),
        (("kind",), "key", "kind: expected text like model"),
        (("scheme",), "lcve-2", "scheme: expected text like lcve-1"),
        (("opset",), 0, "opset: expected at least 1"),
        (("bank",), [], "bank: bank.cube_embedding.weight is missing"),
        (("files", "model.onnx", "sha256"), "ab" * 31, "files.model.onnx.sha256: expected text like"),
        (("parity", "clips"), 0, "parity.clips: expected at least 1"),
        (("parity", "max_difference"), 1.0, "parity: the logits do not agree"),
        (("files",), {"../secret": {"bytes": 1, "sha256": "ab" * 32}}, "files: '../secret' leaves the folder"),
        (("files",), {"/secret": {"bytes": 1, "sha256": "ab" * 32}}, "files: '/secret' is not a relative path"),
        (("files",), {}, "files: model.onnx is missing"),
        (("files",), {}, "files: probe.safetensors is missing"),
    ],
)
def test_a_wrong_value_is_named(path: tuple[str, ...], value: object, message: str) -> None:
    said = problems(*path, value=value)
    assert message in said
    assert str(PLACE) in said


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (0, {"dtype": "float16"}, "bank.cube_embedding.weight: expected float32"),
        (1, {"shape": [1, 65, 48]}, "bank.positional_encoding: expected float32 with null for the keys"),
        (1, {"shape": [None, None, 48]}, "bank.positional_encoding: expected float32 with null for the keys"),
        (1, {"shape": []}, "bank.positional_encoding: expected float32 with null for the keys"),
        (2, {"dtype": "float32"}, "bank.readout.index: expected int64"),
        (3, {"name": "bank.tail"}, "expected names from bank.cube_embedding.weight"),
        (4, {"name": "bank.head.weight"}, "bank.head.bias is missing"),
    ],
)
def test_a_wrong_keyed_tensor_is_named(row: int, change: dict[str, Any], message: str) -> None:
    bank = json.loads(manifest_bytes(MANIFEST))["bank"]
    bank[row] |= change
    assert message in problems("bank", value=bank)


def test_keyed_tensors_have_an_order() -> None:
    bank = json.loads(manifest_bytes(MANIFEST))["bank"]
    assert "in this order" in problems("bank", value=bank[::-1])


def test_a_model_that_reads_a_mean_has_no_index() -> None:
    mean = tuple(spec for spec in MANIFEST.model.bank if not spec.name.endswith("readout.index"))
    manifest = dataclasses.replace(MANIFEST, model=dataclasses.replace(MANIFEST.model, bank=mean))
    assert parse_manifest(manifest_bytes(manifest), PLACE) == manifest


def test_clips_of_any_key_fit_a_model_and_clips_of_another_shape_do_not() -> None:
    model = MANIFEST.model
    model.require(model.binding_of(KEY_REF), here="model", there="clip")
    other = dataclasses.replace(model.binding_of(KEY_REF), layout=Layout.VIDEO)
    with pytest.raises(MismatchError, match="layout cubes in the model, video in the clip"):
        model.require(other, here="model", there="clip")


def test_a_wrong_field_of_the_clips_is_the_only_one_that_is_named() -> None:
    """What cannot be compared with the geometry is not compared with something in its place."""
    assert problems("geometry", value="8x33x32x3/2x8x8").count("; ") == 0
    assert problems("layout", value="tokens").count("; ") == 0


@pytest.mark.parametrize("name", list(json.loads(manifest_bytes(MANIFEST))))
def test_every_field_is_needed(name: str) -> None:
    content = json.loads(manifest_bytes(MANIFEST))
    del content[name]
    with pytest.raises(ArtifactError, match=rf"{name}: missing") as caught:
        parse_manifest(json.dumps(content).encode(), PLACE)
    assert name != "scheme" or str(caught.value).count("; ") == 0
