"""Every refusal."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import (
    BuildOptions,
    EngineKind,
    ExportOptions,
    SecurityKey,
    SessionOptions,
    add_keys,
    build,
    build_fastest,
    check_signature,
    export,
    open_session,
    verify,
    verify_engine,
    verify_server,
)
from lcve_deploy.artifact import manifest as manifest_room
from lcve_deploy.artifact import manifest_data, read_manifest
from lcve_deploy.artifact.digests import MANIFEST, SIGNATURE
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE
from lcve_deploy.errors import ArtifactError, BuildError, LcveError, SignatureError
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.opening import checked_manifest
from lcve_deploy.verbs.fastest import EngineChoice
from lcve_deploy.verbs.pairs import paired_client
from tests.conftest import ORACLE, run_error, run_ok
from tests.keys.helpers import encrypted as encrypted_by
from tests.keys.helpers import enrolled
from tests.signing.helpers import OWNER, PIN, STRANGER, TINY, Breakage
from tests.support.artifacts import add_key, flip_a_byte
from tests.support.artifacts import edit_json as edit


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
    "another key": (_resign, "is invalid"),
    "manifest: a field": (lambda s: edit(s / MANIFEST, lambda m: m.update(made_by={})), "is invalid"),
    "manifest: opset": (lambda s: edit(s / MANIFEST, lambda m: m.update(opset=19)), "is invalid"),
    "manifest: a space more": (lambda s: (s / MANIFEST).open("ab").write(b" "), "is invalid"),
    "manifest: written anew": (lambda s: edit(s / MANIFEST, lambda _: None), "is invalid"),
    "manifest: no JSON": (lambda s: (s / MANIFEST).write_bytes(b"{"), "is invalid"),
    "manifest: empty": (lambda s: (s / MANIFEST).write_bytes(b""), "is invalid"),
    **{f"manifest: byte {place}": (_flip(MANIFEST, place), "is invalid") for place in (0, 1, 500, -2, -1)},
    **{f"signature: byte {place}": (_flip(SIGNATURE, place), "is invalid") for place in (0, 31, 32, 62, 63)},
    "signature: empty": (lambda s: os.truncate(s / SIGNATURE, 0), "damaged: expected 64 bytes, received 0"),
    "signature: truncated": (lambda s: os.truncate(s / SIGNATURE, 63), "damaged: expected 64 bytes, received 63"),
    "signature: longer": (
        lambda s: (s / SIGNATURE).open("ab").write(b"\n"),
        "damaged: expected 64 bytes, received more",
    ),
    "signature: zeros": (lambda s: (s / SIGNATURE).write_bytes(bytes(64)), "is invalid"),
    "signature: a folder": (
        lambda s: ((s / SIGNATURE).unlink(), (s / SIGNATURE).mkdir()),
        "expected a file, received a folder, which is not a signature",
    ),
    "another model, digests right": (_another_model, "is invalid"),
}
ENGINE = "onnxruntime-fp32"


@pytest.mark.parametrize(("breakage", "message"), REFUSED.values(), ids=REFUSED)
def test_what_the_pinned_key_has_not_signed_is_refused_everywhere(
    signed: Path, key: SecurityKey, tmp_path: Path, breakage: Breakage, message: str
) -> None:
    server = signed / "server"
    build(server, BuildOptions(signed_by=PIN))
    camera = enrolled(signed, tmp_path / "camera", key, signing_key=OWNER) / "server"
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
        lambda: add_keys(server, {"camera": camera}, signed_by=PIN),
        lambda: paired_client(signed, key, PIN),
        lambda: verify(signed, key=key, checkpoint=TINY.path, options=TINY.options, signed_by=PIN),
    ):
        with pytest.raises(SignatureError, match=message):
            work()
    assert {path: path.stat().st_mtime_ns for path in signed.rglob("*")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera", "service"]


@pytest.mark.parametrize("name", ["unsigned", "another key", "manifest: a field", "signature: truncated"])
def test_every_command_refuses_with_one_clear_error(
    signed: Path, key_file: Path, encrypted: Path, pin_file: Path, tmp_path: Path, name: str
) -> None:
    breakage, message = REFUSED[name]
    server, plain = signed / "server", ORACLE / "clip_8x32x32.npy"
    run_ok("build", server, "--runtime", "onnxruntime")
    run_ok("enroll", signed, "--key", key_file, "--name", "camera", "-o", tmp_path / "camera")
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
        ("build", server, "--runtime", "openvino"),
        ("build", server, "--precision", "auto", "--budget", 1),
        ("apply", server, tmp_path / "camera/server"),
        ("inspect", server),
        ("inspect", signed),
    ):
        assert message in run_error(*arguments, "--signed-by", pin_file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera", "service"]
    assert [path.name for path in (server / "engines").iterdir()] == [ENGINE]


def test_a_model_replaced_with_its_manifest_is_seen_under_a_pin_alone(signed: Path) -> None:
    _another_model(signed / "server")
    assert verify_server(signed / "server").ok
    with pytest.raises(SignatureError, match="it was made with another key, or the manifest was changed"):
        verify_server(signed / "server", signed_by=PIN)


@pytest.mark.parametrize("name", ["model.onnx", "probe.safetensors"])
def test_under_a_pin_digests_cover_all_listed_files(signed: Path, name: str) -> None:
    flip_a_byte(signed / "server" / name)
    with pytest.raises(ArtifactError, match=f"{name} has a different SHA-256"):
        open_session(signed / "server", SessionOptions(signed_by=PIN))


@pytest.mark.parametrize("name", ["keyed.safetensors", "probe.safetensors"])
def test_under_a_pin_digests_cover_the_files_of_a_key(signed: Path, name: str) -> None:
    flip_a_byte(signed / "server/keys/main" / name)
    report = verify_server(signed / "server", signed_by=PIN)
    assert report.model.ok
    assert f"{name} has a different SHA-256" in report.keys["main"].problem


KEYS_REFUSED: dict[str, tuple[Breakage, str]] = {
    "unsigned": (lambda k: (k / KEY_SIGNATURE).unlink(), "is not signed, and a key is pinned"),
    "another key": (
        lambda k: (k / KEY_SIGNATURE).write_bytes(STRANGER.sign_key((k / KEY_MANIFEST).read_bytes())),
        "is invalid",
    ),
    "the signature of the model": (
        lambda k: shutil.copy(k.parents[1] / SIGNATURE, k / KEY_SIGNATURE),
        "is invalid",
    ),
    "manifest: a field": (lambda k: edit(k / KEY_MANIFEST, lambda m: m.update(made_by={})), "is invalid"),
    "signature: truncated": (lambda k: os.truncate(k / KEY_SIGNATURE, 63), "damaged: expected 64 bytes"),
}


@pytest.mark.parametrize(("breakage", "message"), KEYS_REFUSED.values(), ids=KEYS_REFUSED)
def test_a_key_that_the_pinned_key_has_not_signed_is_refused_alone(
    signed: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path, breakage: Breakage, message: str
) -> None:
    server = signed / "server"
    camera = enrolled(signed, tmp_path / "camera", key, signing_key=OWNER)
    add_key(server, camera / "server", "camera")
    breakage(server / "keys/main")
    report = verify_server(server, signed_by=PIN)
    assert (report.model.ok, report.keys["camera"].ok, report.keys["main"].ok) == (True, True, False)
    assert message in report.keys["main"].problem
    session = open_session(server, SessionOptions(signed_by=PIN))
    _, good = encrypted_by(camera / "client", SecurityKey.read(camera / "key.bin"), clip[None])
    assert session.run(good).shape == (1, 5)
    _, bad = encrypted_by(signed / "client", key, clip[None])
    with pytest.raises(LcveError):
        session.run(bad)
    with pytest.raises(SignatureError, match=message):
        paired_client(signed, key, PIN)


def test_what_is_parsed_is_what_was_checked(
    signed: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that is put in the place of the signed one right after the check is not read any more."""
    server = signed / "server"
    camera = enrolled(signed, tmp_path / "camera", key, signing_key=OWNER) / "server"
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
        lambda: add_keys(server, {"camera": camera}, signed_by=PIN) and said,
    )
    for work in readers:
        (server / MANIFEST).write_bytes(good)
        assert work() == said
        assert b"evil" in (server / MANIFEST).read_bytes()
    assert (server / "keys/camera/key.json").is_file()


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
