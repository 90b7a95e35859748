from __future__ import annotations

import pickle
import stat
from pathlib import Path

import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.errors import ExistsError, KeyFileError, WriteError
from lcve_deploy.key import KeyFileWarning

from .conftest import SECRET

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


def test_write_makes_a_private_file_that_reads_back(key: SecurityKey, tmp_path: Path) -> None:
    path = tmp_path / "key.bin"
    key.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SecurityKey.read(path) == key


def test_write_never_overwrites(key: SecurityKey, tmp_path: Path) -> None:
    path = tmp_path / "key.bin"
    path.write_bytes(b"precious")
    with pytest.raises(ExistsError, match="nothing is overwritten"):
        key.write(path)
    assert path.read_bytes() == b"precious"


def test_write_that_fails_leaves_nothing(key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        key.write(tmp_path / "key.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a key file"),
        (b"PRIVATE KEY", "not a key file"),
        (bytes.fromhex(KEY_FILE)[:20], "48 bytes, received 20"),
        (bytes.fromhex(KEY_FILE) + b"\n", "48 bytes, received 49"),
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


def test_read_warns_when_others_can_read_the_key(key: SecurityKey, tmp_path: Path) -> None:
    path = tmp_path / "key.bin"
    key.write(path)
    path.chmod(0o644)
    with pytest.warns(KeyFileWarning, match="chmod 600"):
        SecurityKey.read(path)


def test_the_secret_does_not_show(key: SecurityKey) -> None:
    for text in (repr(key), str(key), f"{key}", repr(vars(key) if hasattr(key, "__dict__") else {})):
        assert SECRET.hex() not in text
        assert repr(SECRET) not in text
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(key)


def test_new_keys_differ() -> None:
    assert SecurityKey.create() != SecurityKey.create()
