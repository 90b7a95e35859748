"""``manifest.json`` without a model: every field is read back, and what is wrong is named with its place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.artifact.digests import MANIFEST as NAME
from lcve_deploy.artifact.manifest import TensorSpec, manifest_bytes, parse_manifest, read_manifest, write_manifest
from lcve_deploy.artifact.signature import PublicKey
from lcve_deploy.errors import ArtifactError, SignatureError
from lcve_deploy.geometry import ClipGeometry

from .manifests import MANIFEST

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
    assert lines[:2] == ["{\n", '  "format": 1,\n']
    assert lines[-1] == "}\n"


def test_the_length_of_the_logits_is_the_number_of_classes() -> None:
    assert MANIFEST.classes == 5
    assert dataclasses.replace(MANIFEST.model, output=TensorSpec(name="", dtype="", shape=(None, None))).classes == 0


def test_a_clip_of_one_cube_has_sizes_of_one() -> None:
    model = dataclasses.replace(
        MANIFEST.model,
        binding=dataclasses.replace(MANIFEST.binding, geometry=ClipGeometry.parse("2x8x8x3/2x8x8")),
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
    assert f"output: expected [null, classes], received {shape}" in message


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
        (("format",), 2, "format: expected 1; a newer version"),
        (("scheme",), "lcve-2", "scheme: expected text like lcve-1"),
        (("opset",), 0, "opset: expected at least 1"),
        (("labels",), "other", "labels: expected text like hidden|shown"),
        (("files", "model.onnx", "sha256"), "ab" * 31, "files.model.onnx.sha256: expected text like"),
        (("parity", "clips"), 0, "parity.clips: expected at least 1"),
        (("parity", "max_difference"), 1.0, "parity: the logits do not agree"),
        (("files",), {"../secret": {"bytes": 1, "sha256": "ab" * 32}}, "files: '../secret' leaves the folder"),
        (("files",), {"/secret": {"bytes": 1, "sha256": "ab" * 32}}, "files: '/secret' is not a relative path"),
        (("files",), {}, "files: model.onnx is missing"),
        (("files",), {}, "files: probe.safetensors is missing"),
        (("key_id",), "short", "key id"),
    ],
)
def test_a_wrong_value_is_named(path: tuple[str, ...], value: object, message: str) -> None:
    said = problems(*path, value=value)
    assert message in said
    assert str(PLACE) in said


def test_a_wrong_field_of_the_binding_is_the_only_one_that_is_named() -> None:
    """What cannot be compared with the binding is not compared with something in its place."""
    assert problems("geometry", value="8x33x32x3/2x8x8").count("; ") == 0
    assert problems("layout", value="tokens").count("; ") == 0


@pytest.mark.parametrize("name", list(json.loads(manifest_bytes(MANIFEST))))
def test_every_field_is_needed(name: str) -> None:
    content = json.loads(manifest_bytes(MANIFEST))
    del content[name]
    with pytest.raises(ArtifactError, match=rf"{name}: missing") as caught:
        parse_manifest(json.dumps(content).encode(), PLACE)
    assert name not in ("scheme", "key_id", "salt") or str(caught.value).count("; ") == 0
