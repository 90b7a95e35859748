"""The way of an artifact, from the owner to the operator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    BuildOptions,
    ExportOptions,
    PlainClip,
    SecurityKey,
    SessionOptions,
    build,
    build_fastest,
    check_signature,
    export,
    open_session,
    sign,
    verify,
    verify_engine,
    verify_server,
)
from lcve_deploy.artifact import manifest_data, read_manifest
from lcve_deploy.artifact.digests import SIGNATURE
from lcve_deploy.artifact.names import KEY_SIGNATURE
from lcve_deploy.errors import SignatureError
from lcve_deploy.verbs.fastest import EngineChoice
from lcve_deploy.verbs.pairs import paired_client
from tests.conftest import run_error, run_ok
from tests.signing.helpers import OWNER, PIN, STRANGER, TINY, forms_of_the_secret
from tests.support.artifacts import contents, flip_a_byte


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
    run_ok("build", out / "server", "--runtime", "onnxruntime", "--clip", tmp_path / "clip.lcve", *pin)
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
    with pytest.raises(SignatureError, match="the signature of the server is invalid"):
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
        ("build", signed / "server", "--runtime", "onnxruntime"),
        ("inspect", signed),
    ):
        assert "is not signed, and a key is pinned" in run_error(*arguments)
    STRANGER.write(tmp_path / "stranger.pem")
    (signed / "server/keys/main" / KEY_SIGNATURE).unlink()
    sign(signed / "server", signing_key=STRANGER)
    assert "is invalid" in run_error("verify", signed / "server")
    run_ok("verify", signed / "server", "--signed-by", tmp_path / "stranger.pub")  # the option comes first
    monkeypatch.setenv("LCVE_SIGNED_BY", "")
    assert "empty name" in run_error("verify", signed / "server")
    run_ok("verify", "--help")


def test_without_a_pin_a_signature_is_neither_trusted_nor_checked(signed: Path, exported: Path) -> None:
    said = "signature: not checked; pass --signed-by"
    assert said in run_ok("verify", signed / "server")
    flip_a_byte(signed / "server" / SIGNATURE)
    assert said in run_ok("verify", signed / "server")
    assert json.loads(run_ok("verify", signed / "server", "--json"))["signature"] == "not checked"
    assert json.loads(run_ok("inspect", signed, "--json"))["signed"] == "yes, not checked"
    assert "signature" not in run_ok("verify", exported / "server")
    assert json.loads(run_ok("verify", exported / "server", "--json"))["signature"] == "none"
    assert json.loads(run_ok("inspect", exported, "--json"))["signed"] == "no"
