"""The file of a key rotation without a model: it reads back, and what is none is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lcve_deploy.artifact.delta import DELTA, Delta, is_delta, read_delta, write_delta
from lcve_deploy.artifact.manifest import manifest_bytes
from lcve_deploy.errors import ArtifactError, SignatureError, WriteError
from lcve_deploy.files.reading import MAX_HEADER_BYTES

from .manifests import MANIFEST

TENSORS = {"head.bias": np.arange(5, dtype=np.float32), "head.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
DELTA_OF = Delta(base="cd" * 32, manifest=MANIFEST, manifest_data=manifest_bytes(MANIFEST), tensors=TENSORS)
METADATA = {
    "format": "1",
    "kind": "rotation",
    "base_manifest_sha256": "cd" * 32,
    "manifest": manifest_bytes(MANIFEST).decode(),
}


@pytest.mark.parametrize("signature", [None, bytes(range(64))], ids=["unsigned", "signed"])
def test_what_is_written_reads_back(tmp_path: Path, signature: bytes | None) -> None:
    turned = {name: np.asfortranarray(tensor) for name, tensor in TENSORS.items()}
    write_delta(tmp_path, dataclasses.replace(DELTA_OF, signature=signature, tensors=turned))
    read = read_delta(tmp_path / DELTA)
    assert (read.base, read.manifest, read.manifest_data) == (DELTA_OF.base, MANIFEST, manifest_bytes(MANIFEST))
    assert read.signature == signature
    assert read.tensors.keys() == TENSORS.keys()
    for name, tensor in read.tensors.items():
        np.testing.assert_array_equal(tensor, TENSORS[name], strict=True)


def test_a_file_says_whether_it_is_one(tmp_path: Path) -> None:
    path = tmp_path / DELTA
    assert not is_delta(path)
    save_file(TENSORS, path)
    assert not is_delta(path)
    save_file(TENSORS, path, METADATA | {"kind": "another"})
    assert not is_delta(path)
    save_file(TENSORS, path, METADATA)
    assert is_delta(path)
    path.write_bytes(b"text")
    assert not is_delta(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "another"}, "is not a key rotation$"),
        ({"format": None}, "is not a key rotation$"),
        ({"manifest": None}, "is not a key rotation$"),
        ({"base_manifest_sha256": None}, "is not a key rotation$"),
        ({"format": "2"}, "has format 2, expected 1"),
        ({"base_manifest_sha256": "cd" * 31}, "does not say which artifact"),
        ({"base_manifest_sha256": "cd" * 33}, "does not say which artifact"),
        ({"manifest": "{}"}, "format: missing"),
        ({"manifest_signature": "ab" * 63}, "expected 128 hex digits, received 126 characters"),
        ({"manifest_signature": "ab" * 65}, "expected 128 hex digits, received 130 characters"),
        ({"manifest_signature": "xy" * 64}, "expected 128 hex digits"),
        ({"manifest_signature": ""}, "expected 128 hex digits, received 0 characters"),
    ],
)
def test_what_is_no_delta_is_refused(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    metadata = {name: text for name, text in (METADATA | changes).items() if text is not None}
    save_file(TENSORS, tmp_path / DELTA, metadata)
    with pytest.raises((ArtifactError, SignatureError), match=message):
        read_delta(tmp_path / DELTA)


@pytest.mark.parametrize("content", [b"", b"text", b"\x02" + bytes(7) + b"{}"])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / DELTA).write_bytes(content)
    with pytest.raises(ArtifactError, match="key rotation") as caught:
        read_delta(tmp_path / DELTA)
    assert "lcve rotate --delta" in caught.value.hint


def test_a_header_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / DELTA, METADATA | {"more": "x" * MAX_HEADER_BYTES})
    assert not is_delta(tmp_path / DELTA)
    with pytest.raises(ArtifactError, match="header") as caught:
        read_delta(tmp_path / DELTA)
    assert "lcve rotate --delta" in caught.value.hint


def test_a_folder_that_is_not_there_takes_no_delta(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=f"cannot write {DELTA}"):
        write_delta(tmp_path / "missing", DELTA_OF)
