"""Keys and their files."""

from __future__ import annotations

import copy
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import (
    ExportOptions,
    PublicKey,
    SecurityKey,
    SigningKey,
)
from lcve_deploy.errors import ArtifactError, KeyFileError, SignatureError, WriteError
from lcve_deploy.files.secrets import KeyFileWarning
from tests.conftest import SECRET, run_error, run_lcve, run_ok
from tests.signing.helpers import FINGERPRINT, OWNER, PIN, forms_of_the_secret
from tests.support.artifacts import contents

# Of the secret 00 01 .. 1f, as in the format
PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"


def shows_no_secret(text: str) -> bool:
    return not any(form in text for form in forms_of_the_secret())


def test_keys_are_those_of_the_format_and_of_rfc_8032() -> None:
    assert PIN.raw.hex() == PUBLIC
    assert PIN.fingerprint == FINGERPRINT
    first_vector = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    assert SigningKey(first_vector).public_key.raw.hex().startswith("d75a980182b10ab7d54bfed3c964073a")


def test_keygen_makes_a_private_and_a_public_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        shown = run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    finally:
        os.umask(before)
    private, public = tmp_path / "signing.pem", tmp_path / "signing.pub"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    key = SigningKey.read(private)
    assert key.public_key == PublicKey.read(public)
    assert key.public_key.fingerprint in shown
    assert private.read_text().splitlines()[1] not in shown
    for path in (private, public):
        assert key.public_key.fingerprint in run_ok("inspect", path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["signing.pem", "signing.pub"]


def test_new_keys_differ() -> None:
    assert SigningKey.create().public_key != SigningKey.create().public_key


def test_the_files_read_back(signing_file: Path, pin_file: Path) -> None:
    assert SigningKey.read(signing_file).public_key == PIN
    assert SigningKey.from_bytes(OWNER.to_bytes()).to_bytes() == signing_file.read_bytes()
    assert PublicKey.read(pin_file) == PublicKey.from_bytes(PIN.to_bytes()) == PIN


@pytest.mark.parametrize("name", ["signing.pem", "signing.pub"])
def test_neither_file_is_ever_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    assert "exists" in run_error("keygen", "--signing", "-o", tmp_path / "signing.pem")
    assert contents(tmp_path) == {name: b"precious"}


@pytest.mark.parametrize("failing", range(4))
def test_a_write_that_fails_leaves_neither_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """The disk is full at any of the steps: bytes and name of the private file, and of the public one."""
    calls = iter(range(4))

    def checked(work: Callable[..., None]) -> Callable[..., None]:
        def step(*arguments: Any) -> None:
            if next(calls) == failing:
                raise OSError(28, "No space left on device")
            work(*arguments)

        return step

    monkeypatch.setattr("os.fsync", checked(os.fsync))
    monkeypatch.setattr("os.link", checked(os.link))
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(WriteError, match="No space left"):
        OWNER.write(tmp_path / "signing.pem")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "master.bin", "--name", "camera-7", "-o", "x.pem"), "cannot be used with --from or --name"),
        (("--name", "camera-7", "-o", "x.pem"), "cannot be used with --from or --name"),
        (("-o", "x.pub"), "the name of a public key"),
        (("-o", "."), "exists"),
        (("-o", "nowhere/x.pem"), "nowhere does not exist"),
    ],
)
def test_keygen_refuses_what_makes_no_key_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in run_error("keygen", "--signing", *arguments)
    assert list(tmp_path.iterdir()) == []


def test_reading_warns_when_others_can_read_the_private_key(signing_file: Path) -> None:
    signing_file.chmod(0o640)
    with pytest.warns(KeyFileWarning, match="chmod 600"):
        SigningKey.read(signing_file)


def test_the_secret_does_not_show() -> None:
    for text in (repr(OWNER), str(OWNER), f"{OWNER}", repr(ExportOptions(signing_key=OWNER)), repr(PIN)):
        assert shows_no_secret(text)
        assert FINGERPRINT in text
    for work in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="pickled"):
            work(OWNER)


def foreign_keys() -> dict[str, tuple[bytes, bytes]]:
    """Private and public halves of other algorithms, in PEM."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519

    made: dict[str, Any] = {
        "ed448": ed448.Ed448PrivateKey.generate(),
        "x25519": x25519.X25519PrivateKey.generate(),
        "p256": ec.generate_private_key(ec.SECP256R1()),
    }
    return {
        name: (
            key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()),
            key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo),
        )
        for name, key in made.items()
    }


def with_password() -> bytes:
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    return key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"word"))


FOREIGN = foreign_keys()
NO_PINS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "something else"),
    "text": (b"not a key", "something else"),
    "key file": (SecurityKey(SECRET).to_bytes(), "something else"),
    "binary": (bytes(range(256)), "something else"),
    "truncated": (PIN.to_bytes()[:60], "something else"),
    "changed": (PIN.to_bytes().replace(b"MCow", b"MCox"), "something else"),
    "raw": (PIN.raw, "something else"),
    "private": (OWNER.to_bytes(), "received a private key"),
    "private with a password": (with_password(), "received a private key"),
    "both": (PIN.to_bytes() + OWNER.to_bytes(), "received a private key"),
    **{name: (public, "another algorithm") for name, (_, public) in FOREIGN.items()},
    **{f"{name} private": (private, "received a private key") for name, (private, _) in FOREIGN.items()},
}


@pytest.mark.parametrize(("content", "message"), NO_PINS.values(), ids=NO_PINS)
def test_what_is_no_public_key_is_no_pin(exported: Path, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "pin.pub").write_bytes(content)
    result = run_lcve("verify", exported / "server", "--signed-by", tmp_path / "pin.pub")
    assert result.exit_code == 1
    assert message in result.stderr
    assert "pin.pub" in result.stderr
    assert shows_no_secret(result.output)
    for line in content.splitlines()[1:-1]:
        assert line.decode("latin-1") not in result.output
    with pytest.raises(SignatureError, match=message) as caught:
        PublicKey.read(tmp_path / "pin.pub")
    assert shows_no_secret(f"{caught.value} {caught.value.hint} {caught.value.__cause__}")


def test_a_pin_that_is_not_there(exported: Path, tmp_path: Path) -> None:
    assert "nowhere.pub" in run_error("verify", exported / "server", "--signed-by", tmp_path / "nowhere.pub")
    assert "received a folder" in run_error("verify", exported / "server", "--signed-by", tmp_path)
    assert "empty name" in run_error("verify", exported / "server", "--signed-by", "")


NO_SIGNING_KEYS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "something else"),
    "key file": (SecurityKey(SECRET).to_bytes(), "something else"),
    "truncated": (OWNER.to_bytes()[:80], "something else"),
    "public": (PIN.to_bytes(), "received a public key"),
    "with a password": (with_password(), "without a password"),
    **{name: (private, "another algorithm") for name, (private, _) in FOREIGN.items()},
}


@pytest.mark.parametrize(("content", "message"), NO_SIGNING_KEYS.values(), ids=NO_SIGNING_KEYS)
def test_what_is_no_signing_key_is_found_out_before_any_work(
    exported: Path, key_file: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_bytes(content)
    bad.chmod(0o600)
    with pytest.raises(KeyFileError, match=message):
        SigningKey.read(bad)
    before = contents(exported)
    for arguments in (
        ("export", "--key", key_file, "--ckpt", tmp_path / "nowhere.pth"),
        ("rotate", exported, "--key", key_file),
        ("enroll", exported, "--key", key_file, "--name", "a"),
        ("sign", exported / "server"),
    ):
        output = () if arguments[0] == "sign" else ("-o", tmp_path / "out")
        result = run_lcve(*arguments, *output, "--signing-key", bad)
        assert result.exit_code == 1
        assert message in result.stderr
        assert "bad.pem" in result.stderr
        assert "reading" not in result.stderr
        assert shows_no_secret(result.output)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pem"]
    assert contents(exported) == before


@pytest.mark.parametrize("data", [b"", b"{}", b"a release of other software", b"[1, 2]"])
def test_a_signing_key_signs_manifests_and_nothing_else(data: bytes) -> None:
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        OWNER.sign(data)
