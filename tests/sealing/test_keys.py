"""Key pairs and their files."""

from __future__ import annotations

import copy
import os
import pickle
import stat
import subprocess
from pathlib import Path

import pytest

from lcve_deploy import SealingKey, SealingPublicKey
from lcve_deploy.errors import ExistsError, KeyFileError, SealingError
from lcve_deploy.files.secrets import KeyFileWarning
from lcve_deploy.sealing import Keyring, Suite
from tests.conftest import run_error, run_ok
from tests.sealing.helpers import KEYS, SUITES, ring, vectors

HYBRID, CLASSICAL = KEYS[Suite.HYBRID], KEYS[Suite.X25519]


@pytest.mark.parametrize("suite", SUITES)
def test_files_are_those_of_the_format(suite: Suite) -> None:
    vector = vectors()[suite]
    key = SealingKey.from_bytes(vector["private_file"].encode())
    assert (key.suite, key.public_key.fingerprint) == (suite, vector["fingerprint"])
    assert key.to_bytes() == vector["private_file"].encode()
    assert SealingPublicKey.from_bytes(key.public_key.to_bytes()) == key.public_key
    assert SealingPublicKey.from_bytes(key.public_key.to_bytes().replace(b"\n", b"\r\n")) == key.public_key


@pytest.mark.parametrize(("options", "suite"), [((), "x25519"), (("--hybrid",), "mlkem768-x25519")])
def test_keygen_makes_a_private_and_a_public_file(options: tuple[str, ...], suite: str, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        shown = run_ok("keygen", "--sealing", *options, "-o", tmp_path / "serve.key")
    finally:
        os.umask(before)
    private, public = tmp_path / "serve.key", tmp_path / "serve.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    key = SealingKey.read(private)
    assert key.suite == suite
    assert key.public_key == SealingPublicKey.read(public)
    assert key.public_key.fingerprint in shown
    for line in private.read_text().splitlines()[1:2]:
        assert line not in shown
    for path in (private, public):
        described = run_ok("inspect", path)
        assert key.public_key.fingerprint in described
        assert "sealing key" in described
    assert "overwritten" in run_error("keygen", "--sealing", "-o", private)


def test_keygen_makes_one_kind_of_pair() -> None:
    assert "pass one of them" in run_error("keygen", "--sealing", "--signing", "-o", "a.key")
    assert "--sealing creates a new key pair" in run_error(
        "keygen", "--sealing", "--name", "a", "--from", "b", "-o", "c"
    )
    assert "--hybrid is only for --sealing" in run_error("keygen", "--hybrid", "-o", "a.key")
    assert "name of a public key" in run_error("keygen", "--sealing", "-o", "serve.pub")


def test_openssl_reads_both_files(tmp_path: Path) -> None:
    CLASSICAL.write(tmp_path / "serve.key")
    made = subprocess.run(
        ["openssl", "pkey", "-in", tmp_path / "serve.key", "-pubout"], check=True, capture_output=True
    ).stdout
    assert made == (tmp_path / "serve.pub").read_bytes()


def test_a_key_never_shows_its_secret() -> None:
    for key in KEYS.values():
        assert key.public_key.fingerprint in repr(key)
        with pytest.raises(TypeError, match="pickled"):
            pickle.dumps(key)
        with pytest.raises(TypeError, match="pickled"):
            copy.copy(key)
        assert not hasattr(key, "__dict__")


def test_a_public_key_travels() -> None:
    for key in KEYS.values():
        assert pickle.loads(pickle.dumps(key.public_key)) == key.public_key  # noqa: S301


def test_a_key_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    CLASSICAL.write(tmp_path / "serve.key")
    (tmp_path / "serve.key").chmod(0o644)
    with pytest.warns(KeyFileWarning, match="chmod 600"):
        SealingKey.read(tmp_path / "serve.key")


PRIVATE, PUBLIC = CLASSICAL.to_bytes(), CLASSICAL.public_key.to_bytes()
ED25519 = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "received something else"),
        (b"LCVEKEY1" + bytes(40), "received something else"),
        (PUBLIC, "received a public key"),
        (PRIVATE[:-10], "received something else"),
        (PRIVATE + b"more", "received something else"),
        (PRIVATE + PRIVATE, "another algorithm"),
        (HYBRID.to_bytes()[:-119], "another algorithm"),
        (b"".join(reversed(HYBRID.to_bytes().partition(b"END PRIVATE KEY-----\n"))), "received something else"),
        (ED25519, "another algorithm"),
        (PRIVATE.replace(b"MC4C", b"MC4D"), "received something else"),
    ],
)
def test_files_that_are_no_private_key_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(KeyFileError, match=words):
        SealingKey.from_bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "received something else"),
        (PRIVATE, "received a private key"),
        (PUBLIC + b"\n", "received something else"),
        (PUBLIC + PUBLIC, "another algorithm"),
        (HYBRID.public_key.to_bytes()[: -len(PUBLIC)], "another algorithm"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "received something else"),
    ],
)
def test_files_that_are_no_public_key_are_refused(data: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "serve.pub").write_bytes(data)
    with pytest.raises(SealingError, match=words) as caught:
        SealingPublicKey.read(tmp_path / "serve.pub")
    assert "serve.pub" in str(caught.value)
    assert "MC4CAQ" not in str(caught.value)


def test_keys_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(KeyFileError, match="32 bytes, received 31"):
        SealingKey(Suite.X25519, bytes(31))
    with pytest.raises(SealingError, match="1216 bytes, received 32"):
        SealingPublicKey(suite=Suite.HYBRID, raw=bytes(32))
    with pytest.raises(SealingError, match="not a public key"):
        SealingPublicKey(suite=Suite.HYBRID, raw=b"\xff" * 1216)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "serve.pub").write_text("mine")
    with pytest.raises(ExistsError):
        CLASSICAL.write(tmp_path / "serve.key")
    assert [path.name for path in tmp_path.iterdir()] == ["serve.pub"]


def test_a_keyring_holds_one_key_or_two_different_ones() -> None:
    assert ring(CLASSICAL, HYBRID).keys == (CLASSICAL, HYBRID)
    for keys in ((), (CLASSICAL, CLASSICAL), (CLASSICAL, HYBRID, SealingKey.create())):
        with pytest.raises(KeyFileError, match="one sealing key, or two"):
            Keyring(keys=keys)


def test_a_pair_that_openssl_has_made_is_read(tmp_path: Path) -> None:
    private, public = tmp_path / "serve.key", tmp_path / "serve.pub"
    for command in (
        ("genpkey", "-algorithm", "X25519", "-out", private),
        ("pkey", "-in", private, "-pubout", "-out", public),
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True)
    private.chmod(0o600)
    assert SealingKey.read(private).public_key == SealingPublicKey.read(public)
