"""Key folders without a model: what is written reads back, and what is wrong is refused with its place."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.artifact import KeyFolder, PublicKey, find_keys, open_key, read_key_manifest, write_key_folder
from lcve_deploy.artifact.key_folder import key_manifest_digest, require_key_name
from lcve_deploy.artifact.probe import Probe
from lcve_deploy.artifact.signature import write_signature
from lcve_deploy.clips import Layout
from lcve_deploy.errors import ArtifactError, MismatchError, SignatureError
from lcve_deploy.keys.signing import SigningKey

from .manifests import KEY_REF
from .manifests import MANIFEST as UNREAD

MANIFEST = dataclasses.replace(UNREAD, digest="cd" * 32)
MODEL = MANIFEST.model


def tensors() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    found = {
        spec.name.removeprefix("bank."): draw.random([size or 0 for size in spec.shape[1:]]).astype(spec.dtype)
        for spec in MODEL.bank
    }
    return {**found, "readout.index": np.array(64)}


def probe() -> Probe:
    return Probe(clip=np.full((1, 64, 384), 7, np.uint8), logits=np.arange(5.0)[None])


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    content = {
        "binding": MODEL.binding_of(KEY_REF),
        "labels": "hidden",
        "model_sha256": MANIFEST.digest,
        "tensors": tensors(),
        "probe": probe(),
        "made_by": {"lcve-deploy": "0.1.0"},
        **changes,
    }
    write_key_folder(folder, **content)
    return folder


def opened(folder: Path) -> KeyFolder:
    return open_key(folder, MANIFEST)


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    key = opened(write(tmp_path / "camera"))
    assert key.manifest.binding == MODEL.binding_of(KEY_REF)
    assert (key.manifest.labels, key.manifest.digest) == ("hidden", key_manifest_digest(key.folder))
    key.verify()
    for name, tensor in tensors().items():
        np.testing.assert_array_equal(key.tensors()[name], tensor)
    np.testing.assert_array_equal(key.probe().clip, probe().clip)
    np.testing.assert_array_equal(key.probe().logits, probe().logits)


def test_the_manifest_has_these_fields(tmp_path: Path) -> None:
    content = json.loads((write(tmp_path / "camera") / "key.json").read_text())
    expected = "format kind scheme key_id salt geometry layout labels model_sha256 files made_by"
    assert list(content) == expected.split()
    assert sorted(content["files"]) == ["keyed.safetensors", "probe.safetensors"]


def test_a_key_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "camera", model_sha256="ef" * 32)
    with pytest.raises(MismatchError, match=r"was made for the model with the manifest efefefefefefefef"):
        opened(folder)


def test_a_key_of_clips_of_another_layout_is_refused(tmp_path: Path) -> None:
    binding = dataclasses.replace(MODEL.binding_of(KEY_REF), layout=Layout.VIDEO)
    with pytest.raises(MismatchError, match="layout cubes in the model, video in the key folder"):
        opened(write(tmp_path / "camera", binding=binding))


@pytest.mark.parametrize("name", ["keyed.safetensors", "probe.safetensors"])
def test_a_changed_file_is_refused(tmp_path: Path, name: str) -> None:
    key = opened(write(tmp_path / "camera"))
    data = bytearray((key.folder / name).read_bytes())
    data[-1] ^= 1
    (key.folder / name).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{name} has a different SHA-256"):
        key.verify()
    with pytest.raises(ArtifactError, match=f"{name} has a different SHA-256"):
        key.tensors() if name.startswith("keyed") else key.probe()


def test_a_file_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    key = opened(write(tmp_path / "camera"))
    (key.folder / "more.bin").touch()
    with pytest.raises(ArtifactError, match=r"more\.bin is not listed"):
        key.verify()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head.bias": None}, "head.bias is missing"),
        ({"tail": np.zeros(2, np.float32)}, "tail is not expected"),
        ({"head.bias": np.zeros(4, np.float32)}, r"head.bias is float32 \[4\], expected float32 \[5\]"),
        ({"head.bias": np.zeros(5)}, r"head.bias is float64 \[5\], expected float32 \[5\]"),
        ({"head.bias": np.full(5, np.nan, np.float32)}, "head.bias has values that are not finite"),
        ({"readout.index": np.array(65)}, "readout.index is 65, expected a token index below 65"),
        ({"readout.index": np.array(-1)}, "readout.index is -1"),
    ],
)
def test_tensors_of_another_model_are_refused(
    tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    changed = {name: tensor for name, tensor in {**tensors(), **change}.items() if tensor is not None}
    key = opened(write(tmp_path / "camera", tensors=changed))
    with pytest.raises(ArtifactError, match=message):
        key.tensors()


def test_a_probe_of_a_key_has_no_tensors(tmp_path: Path) -> None:
    key = opened(write(tmp_path / "camera", probe=dataclasses.replace(probe(), tensors=tensors())))
    with pytest.raises(ArtifactError, match="expected clip and logits"):
        key.probe()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", 1, "format: expected 2, received 1"),
        ("kind", "model", "kind: expected text like key"),
        ("labels", "other", "labels: expected text like hidden|shown"),
        ("model_sha256", "ab", "model_sha256: expected text like"),
        ("key_id", "short", "key id"),
        ("files", {}, "files: expected keyed.safetensors and probe.safetensors, received"),
        ("files", {"../x": {"bytes": 1, "sha256": "ab" * 32}}, "files: '../x' leaves the folder"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, field: str, value: object, message: str) -> None:
    path = write(tmp_path / "camera") / "key.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ArtifactError, match=message):
        read_key_manifest(path.parent)


def test_under_a_pinned_key_only_what_it_has_signed_is_read(tmp_path: Path) -> None:
    owner, other = SigningKey.create(), SigningKey.create()
    folder = write(tmp_path / "camera")
    with pytest.raises(SignatureError, match="is not signed"):
        read_key_manifest(folder, owner.public_key)
    write_signature(folder, owner.sign_key((folder / "key.json").read_bytes()), "key.sig")
    assert read_key_manifest(folder, owner.public_key) == read_key_manifest(folder)
    with pytest.raises(SignatureError, match="is invalid"):
        read_key_manifest(folder, other.public_key)
    open_key(folder, MANIFEST, owner.public_key).verify()


def test_keys_are_found_by_their_folders(tmp_path: Path) -> None:
    assert find_keys(tmp_path) == {}
    for name in ("b", "a", ".being-copied"):
        write(tmp_path / "keys" / name)
    (tmp_path / "keys" / "empty").mkdir()
    (tmp_path / "keys" / "note.txt").touch()
    assert list(find_keys(tmp_path)) == ["a", "b"]


def test_a_linked_folder_is_a_key_and_a_linked_file_in_it_is_refused(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere")
    (tmp_path / "server" / "keys").mkdir(parents=True)
    (tmp_path / "server" / "keys" / "camera").symlink_to(elsewhere)
    key = opened(find_keys(tmp_path / "server")["camera"])
    key.verify()
    (elsewhere / "keyed.safetensors").rename(tmp_path / "moved")
    (elsewhere / "keyed.safetensors").symlink_to(tmp_path / "moved")
    with pytest.raises(ArtifactError, match=r"keyed.safetensors is .*link"):
        key.tensors()


@pytest.mark.parametrize("name", ["", ".x", "a/b", "..", "a b", "ä", "x" * 65])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(ArtifactError, match="expected a name of 1 to 64"):
        require_key_name(name)


def test_a_public_key_is_not_part_of_a_key_folder(tmp_path: Path) -> None:
    """A pinned key comes from elsewhere: one in the folder is a file that is not listed."""
    key = opened(write(tmp_path / "camera"))
    (key.folder / "signing.pub").write_bytes(PublicKey(raw=bytes(32)).to_bytes())
    with pytest.raises(ArtifactError, match=r"signing\.pub is not listed"):
        key.verify()
