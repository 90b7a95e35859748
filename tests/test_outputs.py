"""Permissions of what is written, and what takes the place of something else."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy.errors import WriteError
from lcve_deploy.files import writing as outputs
from lcve_deploy.files.writing import new_file, new_folder, remove_folder, replace_file
from tests.conftest import ORACLE, ORACLES, run_ok

TINY = ORACLES["v1_model_args"]
MASKS = pytest.mark.parametrize("mask", [0o000, 0o022, 0o027, 0o077], ids=oct)


@contextmanager
def masked(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
        assert os.umask(mask) == mask  # still as it was
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def assert_as_the_umask_says(folder: Path, mask: int) -> None:
    """Files that their users read and write, folders that they enter, and no more than the umask leaves."""
    for path in (folder, *folder.rglob("*")):
        assert mode(path) == (0o777 if path.is_dir() else 0o666) & ~mask, path


@MASKS
def test_files_and_folders_follow_the_umask(tmp_path: Path, mask: int) -> None:
    with masked(mask):
        root = tmp_path / "root"
        root.mkdir()
        with new_file(root / "file") as file:
            file.write(b"1")
        with new_folder(root / "folder") as stage:
            (stage / "inner").mkdir()
            (stage / "inner/file").write_bytes(b"1")
            (stage / "inner/file").chmod(0o600)  # as some libraries do
        for data in (b"1", b"2"):
            replace_file(root / "record", data)
        assert_as_the_umask_says(root, mask)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> dict[int, bytes]:
    """Content of every file when it was brought to the disk, by the file's number."""
    found: dict[int, bytes] = {}
    fsync = os.fsync

    def remembered(descriptor: int) -> None:
        fsync(descriptor)
        found[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    monkeypatch.setattr("lcve_deploy.files.writing.os.fsync", remembered)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_appears_is_on_the_disk_before(
    tmp_path: Path, synced: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that loses its power may show a file under its name without its content."""
    appeared = []

    def watch(kind: Any, name: str) -> None:
        real = getattr(kind, name)

        def before(source: Path, *rest: Any) -> Any:
            files = [path for path in [Path(source), *Path(source).rglob("*")] if path.is_file()]
            appeared.append({synced.get(path.stat().st_ino) == path.read_bytes() for path in files})
            return real(source, *rest)

        monkeypatch.setattr(kind, name, before)

    watch(os, "link")
    watch(Path, "rename")
    watch(Path, "replace")
    with new_file(tmp_path / "file") as file:
        file.write(b"1")
    with new_folder(tmp_path / "folder") as stage:
        (stage / "inner/most").mkdir(parents=True)
        for path in ("a", "inner/b", "inner/most/c"):
            (stage / path).write_bytes(path.encode())
    replace_file(tmp_path / "record", b"2")
    assert appeared == [{True}] * 3
    assert sorted(synced.values()) == [b"1", b"2", b"a", b"inner/b", b"inner/most/c"]


@MASKS
def test_what_is_being_written_is_private(tmp_path: Path, mask: int) -> None:
    with masked(mask):
        with new_file(tmp_path / "file"):
            assert [mode(path) for path in tmp_path.iterdir()] == [0o600 & ~mask]
        (tmp_path / "file").unlink()
        with new_folder(tmp_path / "folder") as stage:
            (stage / "file").write_bytes(b"1")
            assert list(tmp_path.iterdir()) == [stage]
            assert mode(stage) == 0o700


@MASKS
def test_what_the_commands_make_follows_the_umask(exported: Path, key_file: Path, tmp_path: Path, mask: int) -> None:
    root = tmp_path / "root"
    service, key = root / "service", ("--key", key_file)
    with masked(mask):
        root.mkdir()
        run_ok("export", *key, "--ckpt", TINY.path, "-o", service, *TINY.flags)
        run_ok("encrypt", ORACLE / "clip_8x32x32.npy", *key, "--client", service / "client", "-o", root / "clip.lcve")
        run_ok("decrypt", root / "clip.lcve", *key, "-o", root / "clip.npy")
        run_ok("run", service / "server", root / "clip.lcve", "--logits-out", root / "logits.npy")
        run_ok("build", service / "server", "--runtime", "onnxruntime")
        run_ok("rotate", service, *key, "-o", root / "rotated")
        run_ok("enroll", service, *key, "--name", "camera-7", "-o", root / "camera-7")
        run_ok("apply", service / "server", root / "camera-7")
        assert mode(root / "camera-7/key.bin") == 0o600
        (root / "camera-7/key.bin").unlink()
        assert_as_the_umask_says(root, mask)
    assert exported.is_dir()


def test_reading_the_umask_opens_nothing_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one for all threads of a process."""
    masks, umask = [], os.umask

    def watched(mask: int) -> int:
        masks.append(mask)
        return umask(mask)

    with masked(0o027):
        monkeypatch.setattr("os.umask", watched)
        assert outputs._umask() == 0o027
        monkeypatch.undo()
    assert all(mask & 0o027 == 0o027 for mask in masks)


def test_a_folder_is_removed_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "engine"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner/file").touch()
    rmtree = shutil.rmtree

    def watched(path: Path, **more: Any) -> None:
        assert not folder.exists()
        rmtree(path, **more)

    monkeypatch.setattr("shutil.rmtree", watched)
    remove_folder(folder)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WriteError, match="cannot write"):
        remove_folder(folder)
    assert list(tmp_path.iterdir()) == []
