"""Pipes, devices and folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.targets import GEOMETRY, PREPROCESS, SECRET
from lcve_deploy import SecurityKey
from lcve_deploy.artifact import read_client, read_engine, read_key_manifest, read_manifest
from lcve_deploy.artifact.digests import hold_checked
from lcve_deploy.clipfile import read_clip_file
from lcve_deploy.errors import CheckpointError, EncryptedClipError, LcveError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.video import read_clips
from tests.conftest import run_error
from tests.fuzz.helpers import (
    seed,
)


def _folder_with(place: Path, name: str) -> Path:
    os.mkfifo(place / name)
    return place


def _hugging_face(place: Path, name: str) -> Path:
    if name != "config.json":
        (place / "config.json").write_bytes(seed("folder", "config")[1:])
    return _folder_with(place, name)


WAITING: dict[str, Callable[[Path], object]] = {
    "key": lambda place: SecurityKey.read(_folder_with(place, "x") / "x"),
    "clip": lambda place: read_clip_file(_folder_with(place, "x") / "x"),
    "manifest": lambda place: read_manifest(_folder_with(place, "manifest.json")),
    "client": lambda place: read_client(_folder_with(place, "client.json")),
    "key_manifest": lambda place: read_key_manifest(_folder_with(place, "key.json")),
    "file of a folder": lambda place: hold_checked(_folder_with(place, "x"), "x", None, mapped=False),
    "engine": lambda place: read_engine(_folder_with(place, "engines"), "fast"),
    "checkpoint": lambda place: load_checkpoint(_folder_with(place, "x.pth") / "x.pth"),
    "configuration": lambda place: load_checkpoint(_hugging_face(place, "config.json")),
    "weights": lambda place: load_checkpoint(_hugging_face(place, "model.safetensors")),
    "video": lambda place: read_clips(_folder_with(place, "x.mp4") / "x.mp4", PREPROCESS, GEOMETRY),
    "array": lambda place: read_clips(_folder_with(place, "x.npy") / "x.npy", PREPROCESS, GEOMETRY),
    "image": lambda place: read_clips(_folder_with(place, "x.png"), PREPROCESS, GEOMETRY),
    "command": lambda place: pytest.fail(run_error("inspect", _folder_with(place, "x") / "x")),
}


@pytest.mark.parametrize("name", [name for name in WAITING if name != "command"])
def test_a_pipe_is_refused_and_not_waited_for(name: str, tmp_path: Path) -> None:
    with pytest.raises(LcveError):
        WAITING[name](tmp_path)


def test_commands_refuse_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    assert "a pipe" in run_error("inspect", tmp_path / "x")
    assert "a device" in run_error("inspect", "/dev/zero")


def test_class_names_are_read_like_any_file(tmp_path: Path, key_file: Path) -> None:
    os.mkfifo(tmp_path / "names.txt")
    (tmp_path / "names.json").write_text("[" * 5000 + "]" * 5000)
    for name in ("names.txt", "names.json"):
        arguments = ("export", "--key", key_file, "--ckpt", tmp_path, "-o", tmp_path / "out")
        assert "cannot be read" in run_error(*arguments, "--labels", tmp_path / name)


def test_a_folder_in_place_of_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match="a folder"):
        load_checkpoint(tmp_path)
    with pytest.raises(EncryptedClipError, match="a folder"):
        read_clip_file(tmp_path)


def test_links_to_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "key.bin").write_bytes(SecurityKey(SECRET).to_bytes())
    (tmp_path / "key.bin").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "key.bin")
    assert SecurityKey.read(tmp_path / "link") == SecurityKey(SECRET)
