from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lcve_deploy import ClipFile, Layout, PlainClip, SecurityKey, Views, derive_orders, encrypt
from lcve_deploy.clipfile import read_clip_file, write_clip_file
from lcve_deploy.errors import EncryptedClipError, ExistsError
from tests.conftest import GEOMETRY, SALT

METADATA = {
    "scheme": "lcve-1",
    "key_id": "18258155f8beb88349d78aa1c9c36104",
    "salt": SALT.hex(),
    "geometry": str(GEOMETRY),
    "layout": "cubes",
    "views": "2x1",
}
VALUES = np.zeros((2, 64, 384), np.uint8)


@pytest.mark.parametrize("layout", list(Layout))
def test_a_clip_file_reads_back(key: SecurityKey, clip: np.ndarray, tmp_path: Path, layout: Layout) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    encrypted = encrypt(PlainClip(values=np.stack([clip] * 6)), orders, layout=layout)
    write_clip_file(tmp_path / "a.lcve", ClipFile(clip=encrypted, views=Views(temporal=2, spatial=3)))
    content = read_clip_file(tmp_path / "a.lcve")
    np.testing.assert_array_equal(content.clip.values, encrypted.values)
    assert (content.clip.binding, str(content.views)) == (encrypted.binding, "2x3")


def test_the_file_is_what_the_format_says(key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    from safetensors import safe_open

    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    encrypted = encrypt(PlainClip(values=np.stack([clip] * 2)), orders)
    write_clip_file(tmp_path / "a.lcve", ClipFile(clip=encrypted, views=Views(temporal=2)))
    with safe_open(tmp_path / "a.lcve", framework="numpy") as file:
        assert file.metadata() == METADATA
        assert list(file.keys()) == ["clip"]


def test_an_existing_file_is_never_overwritten(key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    orders = derive_orders(key, salt=SALT, geometry=GEOMETRY)
    content = ClipFile(clip=encrypt(PlainClip(values=clip[None]), orders), views=Views())
    (tmp_path / "a.lcve").write_bytes(b"precious")
    with pytest.raises(ExistsError):
        write_clip_file(tmp_path / "a.lcve", content)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


@pytest.mark.parametrize("name", METADATA)
def test_every_field_is_needed(tmp_path: Path, name: str) -> None:
    save_file({"clip": VALUES}, tmp_path / "a.lcve", {k: v for k, v in METADATA.items() if k != name})
    with pytest.raises(EncryptedClipError, match=f"lacks {name}"):
        read_clip_file(tmp_path / "a.lcve")


@pytest.mark.parametrize(
    "change",
    [
        {"geometry": "8x32x32x3"},
        {"layout": "tokens"},
        {"views": "0x1"},
        {"views": "3x1"},
        {"salt": "?"},
        {"key_id": ""},
    ],
    ids=str,
)
def test_fields_that_contradict_the_clip_are_refused(tmp_path: Path, change: dict[str, str]) -> None:
    save_file({"clip": VALUES}, tmp_path / "a.lcve", {**METADATA, **change})
    with pytest.raises(EncryptedClipError):
        read_clip_file(tmp_path / "a.lcve")


def test_other_dtypes_and_tensors_are_refused(tmp_path: Path) -> None:
    save_file({"clip": VALUES.astype(np.float32)}, tmp_path / "float.lcve", METADATA)
    save_file({"clip": VALUES, "order": np.zeros(3)}, tmp_path / "more.lcve", METADATA)
    for name in ("float.lcve", "more.lcve"):
        with pytest.raises(EncryptedClipError):
            read_clip_file(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"LCVEKEY1", bytes(100), b"\xff" * 64])
def test_foreign_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.lcve").write_bytes(content)
    with pytest.raises(EncryptedClipError, match="not an encrypted clip"):
        read_clip_file(tmp_path / "a.lcve")
