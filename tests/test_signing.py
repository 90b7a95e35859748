"""Signed artifacts: what the pinned key has signed is taken, and nothing else; the private key stays where it is."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import os
import pickle
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import (
    BuildOptions,
    Client,
    EngineKind,
    ExportOptions,
    PlainClip,
    PublicKey,
    SecurityKey,
    SessionOptions,
    SigningKey,
    apply_delta,
    build,
    build_fastest,
    check_signature,
    export,
    open_session,
    rotate,
    rotate_delta,
    sign,
    verify,
    verify_engine,
    verify_server,
)
from lcve_deploy.artifact import manifest as manifest_room
from lcve_deploy.artifact import manifest_data, read_manifest, record_files
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.artifact.engines import write_engine
from lcve_deploy.clipfile import ClipFile, write_clip_file
from lcve_deploy.clips import Views
from lcve_deploy.errors import ArtifactError, BuildError, ExistsError, KeyFileError, SignatureError, WriteError
from lcve_deploy.keys.reading import KeyFileWarning
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.verbs.fastest import EngineChoice
from lcve_deploy.verbs.pairs import paired_client

from .conftest import ORACLE, ORACLES, SECRET, run_error, run_lcve, run_ok
from .test_artifact import edit, flip_a_byte
from .test_boundaries import OPERATOR, key_rooms_in, loaded_after
from .test_rotate import contents

TINY = ORACLES["v1_model_args"]
OWNER = SigningKey(SECRET)
STRANGER = SigningKey(bytes(32))
PIN = OWNER.public_key

# Of the secret 00 01 .. 1f, as in the format
PUBLIC = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
FINGERPRINT = "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5"

Breakage = Callable[[Path], object]


@pytest.fixture
def signed(artifact: Path) -> Path:
    """A signed artifact, to break."""
    sign(artifact / "server", signing_key=OWNER)
    return artifact


@pytest.fixture
def signing_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The owner's private key; its public one is beside it."""
    path = tmp_path_factory.mktemp("keys") / "signing.pem"
    OWNER.write(path)
    return path


@pytest.fixture
def pin_file(signing_file: Path) -> Path:
    return signing_file.with_suffix(".pub")


@pytest.fixture
def encrypted(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    client = Client.open(exported / "client", key)
    path = tmp_path_factory.mktemp("clip") / "clip.lcve"
    write_clip_file(path, ClipFile(clip=client.encrypt(PlainClip(values=clip[None])), views=Views()))
    return path


def forms_of_the_secret(secret: bytes = SECRET) -> tuple[str, ...]:
    """The secret as hex, in the base64 of its PEM file, and as Python shows bytes."""
    line = SigningKey(secret).to_bytes().decode().splitlines()[1]
    return secret.hex(), base64.b64encode(secret).decode(), line, line[-20:], repr(secret)[2:-1]


def shows_no_secret(text: str) -> bool:
    return not any(form in text for form in forms_of_the_secret())


# Keys and their files


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
        (("--from", "master.bin", "--name", "camera-7", "-o", "x.pem"), "neither with --from nor with --name"),
        (("--name", "camera-7", "-o", "x.pem"), "neither with --from nor with --name"),
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
        ("rotate", exported, "--key", key_file, "--delta"),
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


# The way of an artifact, from the owner to the operator


def test_the_commands_from_export_to_run(
    key_file: Path, signing_file: Path, pin_file: Path, clip: np.ndarray, tmp_path: Path
) -> None:
    out, clip_file, pin = tmp_path / "out", tmp_path / "clip.npy", ("--signed-by", pin_file)
    np.save(clip_file, clip)
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", out, *TINY.flags, "--signing-key", signing_file)
    assert len((out / "server" / SIGNATURE).read_bytes()) == 64
    run_ok("encrypt", clip_file, "--key", key_file, "--client", out / "client", "-o", tmp_path / "clip.lcve")
    assert "signature: ok\n" in run_ok("verify", out / "server", *pin)
    owner = ("verify", out, "--key", key_file, "--ckpt", TINY.path)
    assert "signature: ok\n" in run_ok(*owner, *pin)
    assert json.loads(run_ok(*owner, *pin, "--json"))["signature"] == "ok"
    run_ok("build", out / "server", "--engine", "onnxruntime", "--clips", tmp_path / "clip.lcve", *pin)
    assert "signature: ok\n" in run_ok("verify", out / "server", *pin, "--engine", "onnxruntime-fp32")
    assert "signature: ok\n" in run_ok("verify", out / "server", *pin)
    for engine in ((), ("--engine", "fastest")):
        run_ok("run", out / "server", tmp_path / "clip.lcve", *pin, *engine)
        shown = json.loads(run_ok("run", out, clip_file, "--key", key_file, *pin, *engine, "--json"))
        assert shown["predictions"][0]["index"] == int(np.argmax(TINY.logits))
    for folder in (out, out / "server"):
        assert json.loads(run_ok("inspect", folder, *pin, "--json"))["signed"].startswith("yes, by the pinned key")
    everything = b"".join(contents(tmp_path).values())
    assert not any(form.encode() in everything for form in forms_of_the_secret())


def test_python_from_export_to_run(key: SecurityKey, encrypted: Path, clip: np.ndarray, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint=TINY.options, signing_key=OWNER)
    server = export(TINY.path, tmp_path / "out", key=key, options=options).folder / "server"
    session = open_session(server, SessionOptions(signed_by=PIN))
    assert session.model == read_manifest(server, PIN).model
    assert verify_server(server, signed_by=PIN).ok
    assert verify(tmp_path / "out", key=key, checkpoint=TINY.path, options=TINY.options, signed_by=PIN).ok
    client = paired_client(tmp_path / "out", key, PIN)
    clips = client.encrypt(PlainClip(values=clip[None]))
    record = build(server, BuildOptions(signed_by=PIN), clips=clips)
    assert record.agreement is not None
    assert build_fastest(server, EngineChoice(options=BuildOptions(signed_by=PIN))).fastest.proof
    assert verify_engine(server, record.name, signed_by=PIN).ok
    logits = open_session(server, SessionOptions(engine=record.name, signed_by=PIN)).run(clips)
    np.testing.assert_allclose(client.plain_order(logits)[0], TINY.logits, atol=1e-5)


def test_manifest_and_signature_that_come_as_bytes(signed: Path) -> None:
    """What a client of a network server does: check the bytes, then parse the same bytes."""
    manifest, signature = manifest_data(signed / "server"), (signed / "server" / SIGNATURE).read_bytes()
    check_signature(manifest, signature, PIN, place="the server")
    with pytest.raises(SignatureError, match="the signature of the server does not hold"):
        check_signature(manifest + b"\n", signature, PIN, place="the server")
    with pytest.raises(SignatureError, match="the server is not signed, and a key is pinned"):
        check_signature(manifest, None, PIN, place="the server")


def test_the_variable_pins_for_every_command(
    signed: Path, encrypted: Path, pin_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LCVE_SIGNED_BY", str(pin_file))
    assert json.loads(run_ok("verify", signed / "server", "--json"))["signature"] == "ok"
    run_ok("run", signed / "server", encrypted)
    (signed / "server" / SIGNATURE).unlink()
    for arguments in (
        ("verify", signed / "server"),
        ("run", signed / "server", encrypted),
        ("build", signed / "server", "--engine", "onnxruntime"),
        ("inspect", signed),
    ):
        assert "is not signed, and a key is pinned" in run_error(*arguments)
    STRANGER.write(tmp_path / "stranger.pem")
    sign(signed / "server", signing_key=STRANGER)
    assert "does not hold" in run_error("verify", signed / "server")
    run_ok("verify", signed / "server", "--signed-by", tmp_path / "stranger.pub")  # the option comes first
    monkeypatch.setenv("LCVE_SIGNED_BY", "")
    assert "empty name" in run_error("verify", signed / "server")
    run_ok("verify", "--help")


def test_without_a_pin_a_signature_is_neither_trusted_nor_checked(signed: Path, exported: Path) -> None:
    said = "signature: not checked, though there is one"
    assert said in run_ok("verify", signed / "server")
    flip_a_byte(signed / "server" / SIGNATURE)
    assert said in run_ok("verify", signed / "server")
    assert json.loads(run_ok("verify", signed / "server", "--json"))["signature"] == "not checked"
    assert json.loads(run_ok("inspect", signed, "--json"))["signed"] == "yes, not checked"
    assert "signature" not in run_ok("verify", exported / "server")
    assert json.loads(run_ok("verify", exported / "server", "--json"))["signature"] == "none"
    assert json.loads(run_ok("inspect", exported, "--json"))["signed"] == "no"


# Every refusal


def _flip(name: str, place: int) -> Breakage:
    def apply(server: Path) -> None:
        data = bytearray((server / name).read_bytes())
        data[place] ^= 1
        (server / name).write_bytes(data)

    return apply


def _resign(server: Path) -> None:
    (server / SIGNATURE).write_bytes(STRANGER.sign(manifest_data(server)))


def _another_model(server: Path) -> None:
    """Model, probe and manifest of somebody else, whose digests all hold; the signature stays."""
    signature = (server / SIGNATURE).read_bytes()
    shutil.rmtree(server)
    options = ExportOptions(checkpoint=TINY.options)
    export(TINY.path, server.parent / "evil", key=SecurityKey(bytes(32)), options=options)
    shutil.move(server.parent / "evil/server", server)
    shutil.rmtree(server.parent / "evil")
    (server / SIGNATURE).write_bytes(signature)


REFUSED: dict[str, tuple[Breakage, str]] = {
    "unsigned": (lambda s: (s / SIGNATURE).unlink(), "is not signed, and a key is pinned"),
    "another key": (_resign, "does not hold"),
    "manifest: a field": (lambda s: edit(s / MANIFEST, lambda m: m.update(made_by={})), "does not hold"),
    "manifest: salt": (lambda s: edit(s / MANIFEST, lambda m: m.update(salt="0" * 32)), "does not hold"),
    "manifest: a space more": (lambda s: (s / MANIFEST).open("ab").write(b" "), "does not hold"),
    "manifest: written anew": (lambda s: edit(s / MANIFEST, lambda _: None), "does not hold"),
    "manifest: no JSON": (lambda s: (s / MANIFEST).write_bytes(b"{"), "does not hold"),
    "manifest: empty": (lambda s: (s / MANIFEST).write_bytes(b""), "does not hold"),
    **{f"manifest: byte {place}": (_flip(MANIFEST, place), "does not hold") for place in (0, 1, 500, -2, -1)},
    **{f"signature: byte {place}": (_flip(SIGNATURE, place), "does not hold") for place in (0, 31, 32, 62, 63)},
    "signature: empty": (lambda s: os.truncate(s / SIGNATURE, 0), "damaged: expected 64 bytes, received 0"),
    "signature: truncated": (lambda s: os.truncate(s / SIGNATURE, 63), "damaged: expected 64 bytes, received 63"),
    "signature: longer": (
        lambda s: (s / SIGNATURE).open("ab").write(b"\n"),
        "damaged: expected 64 bytes, received more",
    ),
    "signature: zeros": (lambda s: (s / SIGNATURE).write_bytes(bytes(64)), "does not hold"),
    "signature: a folder": (
        lambda s: ((s / SIGNATURE).unlink(), (s / SIGNATURE).mkdir()),
        "expected a file, received a folder, which is not a signature",
    ),
    "another model, digests right": (_another_model, "does not hold"),
}

ENGINE = "onnxruntime-fp32"


@pytest.mark.parametrize(("breakage", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_pinned_key_has_not_signed_is_refused_everywhere(
    signed: Path, key: SecurityKey, tmp_path: Path, breakage: Breakage, message: str
) -> None:
    server = signed / "server"
    build(server, BuildOptions(signed_by=PIN))
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    shutil.move(server / "engines", tmp_path / "engines")
    breakage(server)
    shutil.move(tmp_path / "engines", server / "engines")
    before = {path: path.stat().st_mtime_ns for path in signed.rglob("*")}
    choice = EngineChoice(options=BuildOptions(signed_by=PIN))
    for work in (
        lambda: open_session(server, SessionOptions(signed_by=PIN)),
        lambda: open_session(server, SessionOptions(engine=ENGINE, signed_by=PIN)),
        lambda: open_session(server, SessionOptions(engine="fastest", signed_by=PIN)),
        lambda: verify_server(server, signed_by=PIN),
        lambda: verify_engine(server, ENGINE, signed_by=PIN),
        lambda: build(server, BuildOptions(name="new", signed_by=PIN)),
        lambda: build_fastest(server, choice),
        lambda: apply_delta(server, tmp_path / "delta" / DELTA, tmp_path / "out", signed_by=PIN),
        lambda: paired_client(signed, key, PIN),
        lambda: verify(signed, key=key, checkpoint=TINY.path, options=TINY.options, signed_by=PIN),
    ):
        with pytest.raises(SignatureError, match=message):
            work()
    assert {path: path.stat().st_mtime_ns for path in signed.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


@pytest.mark.parametrize("name", ["unsigned", "another key", "manifest: a field", "signature: truncated"])
def test_every_command_refuses_with_one_clear_error(
    signed: Path, key_file: Path, encrypted: Path, pin_file: Path, tmp_path: Path, name: str
) -> None:
    breakage, message = REFUSED[name]
    server, plain = signed / "server", ORACLE / "clip_8x32x32.npy"
    run_ok("build", server, "--engine", "onnxruntime")
    run_ok("rotate", signed, "--key", key_file, "--delta", "-o", tmp_path / "delta")
    breakage(server)
    logits = ("--logits-out", tmp_path / "logits.npy")
    for arguments in (
        ("verify", server),
        ("verify", server, "--json"),
        ("verify", server, "--engine", ENGINE),
        ("verify", signed, "--key", key_file, "--ckpt", TINY.path),
        ("run", server, encrypted, *logits),
        ("run", server, encrypted, "--engine", "fastest", *logits),
        ("run", signed, plain, "--key", key_file, *logits),
        ("build", server, "--engine", "openvino"),
        ("build", server, "--precision", "auto", "--budget", 1),
        ("apply", server, tmp_path / "delta" / DELTA, "-o", tmp_path / "out"),
        ("inspect", server),
        ("inspect", signed),
    ):
        assert message in run_error(*arguments, "--signed-by", pin_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]
    assert [path.name for path in (server / "engines").iterdir()] == [ENGINE]


def test_refitting_is_pinned_too(signed: Path, pin_file: Path) -> None:
    server = signed / "server"
    record = build(server, BuildOptions(name="plan"))
    write_engine(server / "engines/plan", dataclasses.replace(record, kind=EngineKind.TENSORRT, options={}))
    (server / SIGNATURE).unlink()
    assert "is not signed" in run_error("build", server, "--refit", "plan", "--signed-by", pin_file)


def test_a_model_replaced_with_its_manifest_is_seen_under_a_pin_alone(signed: Path) -> None:
    _another_model(signed / "server")
    assert verify_server(signed / "server").ok
    with pytest.raises(SignatureError, match="another key has made it, or the manifest was changed"):
        verify_server(signed / "server", signed_by=PIN)


@pytest.mark.parametrize("name", ["model.onnx", "keyed.safetensors", "probe.safetensors"])
def test_under_a_pin_digests_cover_all_listed_files(signed: Path, name: str) -> None:
    flip_a_byte(signed / "server" / name)
    with pytest.raises(ArtifactError, match=f"{name} has another SHA-256"):
        open_session(signed / "server", SessionOptions(signed_by=PIN))


def test_what_is_parsed_is_what_was_checked(
    signed: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that is put in the place of the signed one right after the check is not read any more."""
    server = signed / "server"
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    good, said = (server / MANIFEST).read_bytes(), read_manifest(server)

    def replacing(*arguments: Any, **more: Any) -> None:
        check_signature(*arguments, **more)
        edit(server / MANIFEST, lambda m: m.update(made_by={"lcve-deploy": "evil"}))

    monkeypatch.setattr(manifest_room, "check_signature", replacing)
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_manifest(server, PIN),
        lambda: checked_manifest(server, PIN),
        lambda: dataclasses.replace(said, model=open_session(server, SessionOptions(signed_by=PIN)).model),
        lambda: (paired_client(signed, key, PIN), said)[1],
        lambda: apply_delta(server, tmp_path / "delta" / DELTA, tmp_path / "out", signed_by=PIN) and said,
    )
    for work in readers:
        (server / MANIFEST).write_bytes(good)
        assert work() == said
        assert b"evil" in (server / MANIFEST).read_bytes()
    assert verify_server(tmp_path / "out").ok


def test_work_of_several_steps_is_pinned_in_every_step(
    signed: Path, key: SecurityKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose signature goes after the first check is not opened by a later step."""
    server = signed / "server"
    build(server, BuildOptions(signed_by=PIN))
    signature = (server / SIGNATURE).read_bytes()
    choice = EngineChoice(
        kinds=(EngineKind.ONNXRUNTIME,), precisions=tuple(Precision), options=BuildOptions(signed_by=PIN)
    )

    def removing(*arguments: Any, **more: Any) -> None:
        check_signature(*arguments, **more)
        (server / SIGNATURE).unlink(missing_ok=True)

    monkeypatch.setattr(manifest_room, "check_signature", removing)
    with pytest.raises(SignatureError, match="is not signed"):
        verify(signed, key=key, checkpoint=TINY.path, options=TINY.options, signed_by=PIN)
    (server / SIGNATURE).write_bytes(signature)
    with pytest.raises(BuildError, match=f"{ENGINE}: .* is not signed"):
        build_fastest(server, choice)


@pytest.mark.parametrize("name", ["manifest.sig.bak", "more/manifest.sig", "Manifest.sig", "signing.pub"])
def test_no_other_file_may_stand_beside(signed: Path, name: str) -> None:
    path = signed / "server" / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(ArtifactError, match=f"{name} is not listed"):
        open_session(signed / "server", SessionOptions(signed_by=PIN))


def test_a_folder_with_the_name_of_the_signature_hides_nothing(artifact: Path) -> None:
    (artifact / "server" / SIGNATURE).mkdir()
    (artifact / "server" / SIGNATURE / "model.onnx.data").touch()
    with pytest.raises(ArtifactError, match=r"manifest\.sig/model\.onnx\.data is not listed"):
        open_session(artifact / "server")


def test_an_engine_has_no_signature(signed: Path) -> None:
    build(signed / "server", BuildOptions())
    (signed / "server/engines" / ENGINE / SIGNATURE).write_bytes(bytes(64))
    with pytest.raises(ArtifactError, match=r"manifest\.sig is not listed"):
        open_session(signed / "server", SessionOptions(engine=ENGINE))


# Signing what exists


def test_sign_writes_the_same_signature_once(artifact: Path, signing_file: Path, pin_file: Path) -> None:
    server = artifact / "server"
    assert FINGERPRINT in run_ok("sign", server, "--signing-key", signing_file)
    before = contents(artifact)
    assert before["server/manifest.sig"] == OWNER.sign((server / MANIFEST).read_bytes())
    run_ok("sign", server, "--signing-key", signing_file)
    assert contents(artifact) == before
    run_ok("verify", server, "--signed-by", pin_file)


@pytest.mark.parametrize(
    "there",
    [
        lambda path: path.write_bytes(bytes(64)),
        lambda path: path.touch(),
        lambda path: path.write_bytes(bytes(65)),
        lambda path: path.symlink_to("nowhere"),
    ],
    ids=["another", "empty", "longer", "dangling link"],
)
def test_sign_overwrites_no_other_signature(artifact: Path, signing_file: Path, there: Breakage) -> None:
    path = artifact / "server" / SIGNATURE
    there(path)
    result = run_lcve("sign", artifact / "server", "--signing-key", signing_file)
    assert result.exit_code == 1
    assert "nothing is overwritten" in result.stderr
    assert f"rm {path}" in result.stderr
    with pytest.raises(ExistsError):
        sign(artifact / "server", signing_key=OWNER)


def test_what_does_not_hold_is_not_signed(artifact: Path, signing_file: Path) -> None:
    flip_a_byte(artifact / "server/model.onnx")
    assert "another SHA-256" in run_error("sign", artifact / "server", "--signing-key", signing_file)
    edit(artifact / "server/manifest.json", lambda m: m.pop("salt"))
    assert "salt: missing" in run_error("sign", artifact / "server", "--signing-key", signing_file)
    assert f"pass {artifact / 'server'}" in run_lcve("sign", artifact, "--signing-key", signing_file).stderr
    assert "signing-key" in run_error("sign", artifact / "server")
    assert not (artifact / "server" / SIGNATURE).exists()


# Rotation


def test_a_rotated_artifact_and_an_applied_delta_are_signed(
    signed: Path, key_file: Path, signing_file: Path, pin_file: Path, tmp_path: Path
) -> None:
    rotation = ("rotate", signed, "--key", key_file, "--salt", "0f" * 16, "--signing-key", signing_file)
    assert "not: no signing key" not in run_ok(*rotation, "-o", tmp_path / "whole")
    run_ok(*rotation, "--delta", "-o", tmp_path / "delta")
    delta = tmp_path / "delta" / DELTA
    shown = json.loads(
        run_ok("apply", signed / "server", delta, "-o", tmp_path / "out", "--signed-by", pin_file, "--json")
    )
    assert shown["signature"] == "ok"
    assert contents(tmp_path / "out") == contents(tmp_path / "whole/server")
    assert verify_server(tmp_path / "out", signed_by=PIN).ok
    assert json.loads(run_ok("inspect", delta, "--json"))["signed"] == "yes, not checked"
    assert json.loads(run_ok("inspect", delta, "--json", "--signed-by", pin_file))["signed"].startswith("yes, by the")
    made = b"".join(b"".join(contents(tmp_path / name).values()) for name in ("out", "whole", "delta"))
    assert not any(form.encode() in made for form in forms_of_the_secret())


@pytest.mark.parametrize("work", [rotate, rotate_delta])
def test_a_rotation_without_a_signing_key_is_unsigned_and_says_so(
    signed: Path, exported: Path, key: SecurityKey, key_file: Path, tmp_path: Path, work: Callable[..., Any]
) -> None:
    result = work(signed, tmp_path / "out", key=key)
    assert any("was signed, and the rotated one is not" in note for note in result.notes)
    assert not any("was signed" in note for note in work(exported, tmp_path / "other", key=key).notes)
    assert not list(tmp_path.glob("out/**/manifest.sig"))
    shown = run_ok("rotate", signed, "--key", key_file, "-o", tmp_path / "again")
    assert "note: the artifact was signed, and the rotated one is not" in shown


def test_without_a_pin_a_delta_brings_its_signature_along(signed: Path, key: SecurityKey, tmp_path: Path) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    rotate_delta(signed, tmp_path / "unsigned", key=key)
    shown = run_ok("apply", signed / "server", tmp_path / "delta" / DELTA, "-o", tmp_path / "out")
    assert "signature: not checked" in shown
    assert verify_server(tmp_path / "out", signed_by=PIN).ok
    shown = run_ok("apply", signed / "server", tmp_path / "unsigned" / DELTA, "-o", tmp_path / "bare")
    assert "signature" not in shown
    assert not (tmp_path / "bare" / SIGNATURE).exists()


def test_rotating_again_and_again_stays_signed(signed: Path, key: SecurityKey, tmp_path: Path) -> None:
    server = signed / "server"
    for turn in range(2):
        rotated = rotate(signed, tmp_path / f"whole-{turn}", key=key, signing_key=OWNER).folder
        rotate_delta(rotated, tmp_path / f"delta-{turn}", key=key, signing_key=OWNER)
        delta = tmp_path / f"delta-{turn}" / DELTA
        server = apply_delta(rotated / "server", delta, tmp_path / f"out-{turn}", signed_by=PIN).folder
        signed = rotated
    assert verify_server(server, signed_by=PIN).ok


def _resave(delta: Path, change: Callable[[dict[str, str]], object]) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(delta, framework="numpy") as file:
        said = dict(file.metadata())
    content = load_file(delta)
    change(said)
    delta.unlink()
    save_file(content, delta, said)


WRONG_DELTAS: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "unsigned": (lambda m: m.pop("manifest_signature"), "is not signed, and a key is pinned"),
    "another key": (
        lambda m: m.update(manifest_signature=STRANGER.sign(m["manifest"].encode()).hex()),
        "does not hold",
    ),
    "a changed manifest": (lambda m: m.update(manifest=m["manifest"] + " "), "does not hold"),
    "no manifest": (lambda m: m.update(manifest="{"), "does not hold"),
    "a signature of another manifest": (
        lambda m: m.update(manifest_signature=OWNER.sign(m["manifest"].encode() + b" ").hex()),
        "does not hold",
    ),
}


@pytest.mark.parametrize(("change", "message"), WRONG_DELTAS.values(), ids=WRONG_DELTAS)
def test_a_delta_that_the_pinned_key_has_not_signed_is_refused(
    signed: Path,
    key: SecurityKey,
    pin_file: Path,
    tmp_path: Path,
    change: Callable[[dict[str, str]], object],
    message: str,
) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    delta = tmp_path / "delta" / DELTA
    _resave(delta, change)
    with pytest.raises(SignatureError, match=message):
        apply_delta(signed / "server", delta, tmp_path / "out", signed_by=PIN)
    apply = ("apply", signed / "server", delta, "-o", tmp_path / "out")
    assert message in run_error(*apply, "--signed-by", pin_file)
    assert message in run_error("inspect", delta, "--signed-by", pin_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "service"]


@pytest.mark.parametrize("text", ["", "0" * 127, "0" * 130, "z" * 128, "A" * 128, " " + "0" * 127])
def test_a_delta_with_a_damaged_signature_is_refused(signed: Path, key: SecurityKey, tmp_path: Path, text: str) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    delta = tmp_path / "delta" / DELTA
    assert read_delta(delta, PIN).signature == OWNER.sign(read_delta(delta).manifest_data)
    _resave(delta, lambda m: m.update(manifest_signature=text))
    for pin in (PIN, None):
        with pytest.raises(SignatureError, match="is damaged: expected 128 hex digits"):
            apply_delta(signed / "server", delta, tmp_path / "out", signed_by=pin)
    assert not (tmp_path / "out").exists()


def test_under_a_pin_the_tensors_of_a_delta_are_those_of_the_signed_manifest(
    signed: Path, key: SecurityKey, tmp_path: Path
) -> None:
    """Rows in a third order fit the old ones as well, but not the digest that was signed."""
    from safetensors.numpy import load_file, save_file

    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    delta = tmp_path / "delta" / DELTA
    whole = read_delta(delta)
    tensors = load_file(delta)
    tensors["positional_encoding"] = np.roll(tensors["positional_encoding"], 1, axis=0)
    metadata: dict[str, str] = {}
    _resave(delta, metadata.update)
    delta.unlink()
    save_file(tensors, delta, metadata)
    assert read_delta(delta, PIN).manifest_data == whole.manifest_data
    with pytest.raises(ArtifactError, match="another SHA-256"):
        apply_delta(signed / "server", delta, tmp_path / "out", signed_by=PIN)
    assert not (tmp_path / "out").exists()


# Without this software

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def run_openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=False)


def _openssl_verify(server: Path, pin_file: Path) -> subprocess.CompletedProcess[str]:
    return run_openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", pin_file, "-rawin"),
        *("-in", server / MANIFEST, "-sigfile", server / SIGNATURE),
    )


@openssl
def test_openssl_checks_our_signatures(signed: Path, pin_file: Path) -> None:
    done = _openssl_verify(signed / "server", pin_file)
    assert done.returncode == 0, done.stderr
    assert "Signature Verified Successfully" in done.stdout
    edit(signed / "server" / MANIFEST, lambda _: None)
    assert _openssl_verify(signed / "server", pin_file).returncode != 0


@openssl
def test_keys_and_signatures_of_openssl_are_ours(artifact: Path, tmp_path: Path) -> None:
    private, public, server = tmp_path / "o.pem", tmp_path / "o.pub", artifact / "server"
    assert run_openssl("genpkey", "-algorithm", "ed25519", "-out", private).returncode == 0
    assert run_openssl("pkey", "-in", private, "-pubout", "-out", public).returncode == 0
    private.chmod(0o600)
    assert SigningKey.read(private).public_key == PublicKey.read(public)
    assert SigningKey.read(private).to_bytes() == private.read_bytes()
    assert PublicKey.read(public).to_bytes() == public.read_bytes()
    made = ("pkeyutl", "-sign", "-inkey", private, "-rawin", "-in", server / MANIFEST, "-out", server / SIGNATURE)
    assert run_openssl(*made).returncode == 0
    run_ok("verify", server, "--signed-by", public)
    run_ok("sign", server, "--signing-key", private)  # the same bytes


# Boundaries


def test_the_operators_commands_load_no_cryptography_without_a_pin_and_no_private_key_with_one(
    signed: Path, key: SecurityKey, encrypted: Path, pin_file: Path, tmp_path: Path
) -> None:
    rotate_delta(signed, tmp_path / "delta", key=key, signing_key=OWNER)
    server = signed / "server"
    for arguments in (
        ("run", server, encrypted),
        ("verify", server),
        ("inspect", tmp_path / "delta" / DELTA),
        ("apply", server, tmp_path / "delta" / DELTA, "-o", tmp_path / "out"),
    ):
        bare = loaded_after(OPERATOR, *arguments)
        assert "cryptography" not in bare
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        pinned = loaded_after(OPERATOR, *arguments, "--signed-by", pin_file)
        assert "cryptography" in pinned
        for modules in (bare, pinned):
            assert not key_rooms_in(modules) - {"lcve_deploy.verbs", "lcve_deploy.exporters"}
            assert not modules & {"torch", "transformers", "av", "lcve_deploy.verbs.sign", "lcve_deploy.verbs.rotate"}


def test_the_light_client_can_check_a_signature_without_an_engine() -> None:
    code = "from lcve_deploy import PublicKey, check_signature; PublicKey(raw=bytes(32)).holds(b'', bytes(64))"
    modules = loaded_after(code)
    assert "cryptography" in modules
    assert not key_rooms_in(modules)
    assert not modules & {"onnxruntime", "lcve_deploy.runtime", "torch"}


def test_the_contract_names_the_package_of_the_private_key() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    contracts = {c["name"]: c for c in project["tool"]["importlinter"]["contracts"]}
    contract = contracts["Code that runs on the server, exports or attacks cannot reach a key"]
    assert "lcve_deploy.keys" in contract["forbidden_modules"]
    assert {"lcve_deploy.runtime", "lcve_deploy.artifact", "lcve_deploy.exporters"} <= set(contract["source_modules"])


@pytest.mark.parametrize("command", ["sign", "build", "rotate", "apply"])
def test_the_commands_have_help(command: str) -> None:
    assert "Usage:" in run_ok(command, "--help")
    assert command in run_ok("--help")


def test_signing_changes_no_other_byte(artifact: Path) -> None:
    before = record_files(artifact)
    sign(artifact / "server", signing_key=OWNER)
    after = record_files(artifact)
    assert set(after) - set(before) == {f"server/{SIGNATURE}"}
    assert {name: after[name] for name in before} == before


def test_under_a_pin_inspect_refuses_a_changed_file(artifact: Path, tmp_path: Path) -> None:
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    run_ok("sign", artifact / "server", "--signing-key", tmp_path / "signing.pem")
    run_ok("inspect", artifact / "server", "--signed-by", tmp_path / "signing.pub")
    with (artifact / "server/model.onnx").open("ab") as file:
        file.write(b"x")
    error = run_error("inspect", artifact / "server", "--signed-by", tmp_path / "signing.pub")
    assert "model.onnx has" in error
