from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.errors import ExistsError, KeyFileError, WriteError
from lcve_deploy.files.secrets import KeyFileWarning
from tests.conftest import GEOMETRY, SECRET, run_error, run_ok

KEY_FILE = "4c4356454b455931000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2fd995f6a45b0b66"


def test_key_file_and_key_id_are_those_of_the_format(key: SecurityKey) -> None:
    assert key.to_bytes().hex() == KEY_FILE
    assert key.key_id == "18258155f8beb88349d78aa1c9c36104"
    assert SecurityKey.from_bytes(bytes.fromhex(KEY_FILE)) == key


def test_derived_key_is_that_of_the_format(key: SecurityKey) -> None:
    derived = key.derive("camera-7")
    secret = "4b787ad7760b4241b0d7df13f04807d7a168e0317a2e931ee9e3b5323263ecef"
    assert derived == SecurityKey(bytes.fromhex(secret))
    assert derived.key_id == "208d6a56528f0e33cd1b08f1ef44edd5"


@pytest.mark.parametrize("name", ["", "Camera", "a b", "x" * 65, "ü", "a/b"])
def test_derived_key_names_are_restricted(key: SecurityKey, name: str) -> None:
    with pytest.raises(KeyFileError, match="a-z 0-9"):
        key.derive(name)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("links", [True, False], ids=["", "file system without links"])
def test_write_makes_a_private_file_that_reads_back(
    key: SecurityKey, tmp_path: Path, mask: int, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr("os.link", no_links)
    paths, before = (tmp_path / "key.bin", tmp_path / "camera.bin"), os.umask(mask)
    try:
        key.write(paths[0])
        key.derive("camera-7").write(paths[1])
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in paths] == [0o600, 0o600]
    assert [SecurityKey.read(path) for path in paths] == [key, key.derive("camera-7")]
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize("kind", ["file", "link to a file", "dangling link", "folder"])
def test_write_never_overwrites(key: SecurityKey, tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "key.bin", tmp_path / "other"
    makers: dict[str, Callable[[], object]] = {
        "file": lambda: path.write_bytes(b"precious"),
        "link to a file": lambda: (other.write_bytes(b"precious"), path.symlink_to(other)),
        "dangling link": lambda: path.symlink_to(other),
        "folder": path.mkdir,
    }
    makers[kind]()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExistsError, match="nothing is overwritten"):
        key.write(path)
    assert sorted(tmp_path.iterdir()) == before
    assert not path.is_file() or path.read_bytes() == b"precious"
    assert path.is_symlink() is ("link" in kind)


def test_of_two_writers_one_wins(key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.fsync", lambda _: (tmp_path / "key.bin").write_bytes(b"precious"))
    with pytest.raises(ExistsError, match="nothing is overwritten"):
        key.write(tmp_path / "key.bin")
    assert (tmp_path / "key.bin").read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_write_that_fails_leaves_nothing(key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        key.write(tmp_path / "key.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_one_clear_error(key: SecurityKey, tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="does not exist"):
        key.write(tmp_path / "nowhere/key.bin")
    tmp_path.chmod(0o500)
    # Root may write anywhere but there.
    folder = Path("/proc") if os.geteuid() == 0 else tmp_path
    with pytest.raises(WriteError, match="cannot write"):
        key.write(folder / "key.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a key file"),
        (b"PRIVATE KEY", "not a key file"),
        (bytes.fromhex(KEY_FILE)[:20], "48 bytes, received 20"),
        (bytes.fromhex(KEY_FILE) + b"\n", "48 bytes, received more"),
        (bytes.fromhex(KEY_FILE)[:-1] + b"\0", "checksum"),
        (bytes.fromhex(KEY_FILE).replace(b"\x05", b"\x06"), "checksum"),
    ],
    ids=["empty", "foreign", "truncated", "longer", "checksum", "secret"],
)
def test_read_refuses_what_is_not_a_whole_key_file(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "key.bin"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=message) as caught:
        SecurityKey.read(path)
    assert SECRET.hex() not in str(caught.value)


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o640, 0o620, 0o610, 0o644, 0o666, 0o440])
def test_read_warns_when_others_have_access(key: SecurityKey, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.bin"
    key.write(path)
    path.chmod(mode)
    with pytest.warns(KeyFileWarning, match=f"mode {mode:04o}.*chmod 600"):
        assert SecurityKey.read(path) == key


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_read_does_not_warn_of_its_owner(key: SecurityKey, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key.bin"
    key.write(path)
    path.chmod(mode)
    assert SecurityKey.read(path) == key  # the suite makes the warning an error


def test_new_keys_differ() -> None:
    assert SecurityKey.create() != SecurityKey.create()


def test_a_derived_key_opens_its_own_key_folder_alone(artifact: Path, key_file: Path, tmp_path: Path) -> None:
    derived, camera = tmp_path / "derived.bin", tmp_path / "camera-7"
    run_ok("keygen", "--from", key_file, "--name", "camera-7", "-o", derived)
    np.save(tmp_path / "clip.npy", np.zeros(GEOMETRY.clip_shape, np.uint8))
    clip = tmp_path / "clip.npy"
    assert "key" in run_error("run", artifact, clip, "--key", derived)
    run_ok("enroll", artifact, "--key", key_file, "--name", "camera-7", "-o", camera)
    client = ("--client", camera / "client")
    assert "no key folder" in run_error("run", artifact / "server", clip, "--key", derived, *client)
    run_ok("apply", artifact / "server", camera)
    assert "%" in run_ok("run", artifact / "server", clip, "--key", derived, *client)
    assert "key" in run_error("run", artifact / "server", clip, "--key", key_file, *client)
