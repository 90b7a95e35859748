"""Key folders are added whole and proven, or not at all; the model folder stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SecurityKey, add_keys, open_session, remove_key, sign
from lcve_deploy.artifact import find_keys, read_key_manifest
from lcve_deploy.artifact.names import KEY_MANIFEST, KEY_SIGNATURE, KEYED, PROBE
from lcve_deploy.errors import (
    ArtifactError,
    ExistsError,
    LcveError,
    MismatchError,
    ParityError,
    SignatureError,
    WriteError,
)
from lcve_deploy.runtime.backends import onnxruntime as backend
from tests.conftest import ORACLES, heed_interrupts, run_error, run_ok
from tests.keys.helpers import Breakage, change_tensor, encrypted, enrolled, rotated
from tests.signing.helpers import OWNER, PIN, STRANGER
from tests.support.artifacts import contents, edit_json, flip_a_byte
from tests.test_boundaries import KEY_ROOMS, loaded_after
from tests.test_export import export_tiny


@pytest.fixture
def camera(exported: Path, key: SecurityKey, tmp_path: Path) -> Path:
    """The key folder of a camera, to break."""
    return enrolled(exported, tmp_path / "camera-7", key) / "server"


def test_a_key_is_added_and_used_by_a_session_that_is_open(artifact: Path, camera: Path, clip: np.ndarray) -> None:
    server = artifact / "server"
    session = open_session(server)
    before = contents(server)
    (added,) = add_keys(server, {"camera-7": camera})
    assert added.probe is not None
    assert added.probe.ok
    assert contents(server / "keys/camera-7") == contents(camera)
    after = contents(server)
    assert {name: after[name] for name in before} == before
    session.refresh_keys()
    client, encrypted_clip = encrypted(
        camera.parent / "client", SecurityKey.read(camera.parent / "key.bin"), clip[None]
    )
    logits = client.plain_order(session.run(encrypted_clip))
    np.testing.assert_allclose(logits[0], ORACLES["v1_model_args"].logits, atol=1e-5)
    remove_key(server, "camera-7")
    assert contents(server) == before


def test_adding_again_changes_nothing(artifact: Path, camera: Path) -> None:
    add_keys(artifact / "server", {"camera-7": camera})
    before = contents(artifact)
    (again,) = add_keys(artifact / "server", {"camera-7": camera})
    assert again.probe is None
    assert contents(artifact) == before
    flip_a_byte(artifact / "server/keys/camera-7" / KEYED)
    with pytest.raises(ArtifactError, match="a different SHA-256"):
        add_keys(artifact / "server", {"camera-7": camera})


def _unknown_model(camera: Path) -> None:
    edit_json(camera / KEY_MANIFEST, lambda key: key.update(model_sha256="0" * 64))


WRONG_FOLDERS: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "gone": (shutil.rmtree, ArtifactError, "expected key.json in"),
    "no manifest": (lambda c: (c / KEY_MANIFEST).unlink(), ArtifactError, "expected key.json in"),
    "not JSON": (lambda c: (c / KEY_MANIFEST).write_text("{"), ArtifactError, "is not JSON"),
    "a newer format": (
        lambda c: edit_json(c / KEY_MANIFEST, lambda key: key.update(format=3)),
        ArtifactError,
        "format: expected 2, received 3",
    ),
    "a model's manifest": (
        lambda c: edit_json(c / KEY_MANIFEST, lambda key: key.update(kind="model")),
        ArtifactError,
        "kind: expected",
    ),
    "no salt": (lambda c: edit_json(c / KEY_MANIFEST, lambda key: key.pop("salt")), ArtifactError, "salt: missing"),
    "tensors damaged": (lambda c: flip_a_byte(c / KEYED), ArtifactError, "keyed.safetensors has a different SHA-256"),
    "probe damaged": (lambda c: flip_a_byte(c / PROBE), ArtifactError, "probe.safetensors has a different SHA-256"),
    "truncated": (lambda c: os.truncate(c / KEYED, 99), ArtifactError, "has 99 bytes"),
    "a file too many": (lambda c: (c / "x").touch(), ArtifactError, "x is not listed"),
    "another model": (_unknown_model, MismatchError, "was made for the model with the manifest 0000"),
    "another geometry": (
        lambda c: edit_json(c / KEY_MANIFEST, lambda key: key.update(geometry="8x16x16x3/2x8x8")),
        MismatchError,
        "geometry",
    ),
    "NaN": (
        lambda c: change_tensor(c, "head.bias", lambda t: t * np.float32("nan")),
        ArtifactError,
        "head.bias has values that are not finite",
    ),
    "another dtype": (
        lambda c: change_tensor(c, "head.bias", lambda t: t.astype(np.float64)),
        ArtifactError,
        r"head.bias is float64 \[5\], expected float32 \[5\]",
    ),
    "tensors of another order": (
        lambda c: change_tensor(c, "positional_encoding", lambda t: np.roll(t, 1, axis=0)),
        ParityError,
        "fails the probe of the key folder",
    ),
}


@pytest.mark.parametrize(("breakage", "kind", "message"), WRONG_FOLDERS.values(), ids=WRONG_FOLDERS)
def test_a_key_folder_that_does_not_hold_is_not_added(
    artifact: Path, camera: Path, breakage: Breakage, kind: type[LcveError], message: str
) -> None:
    breakage(camera)
    before = contents(artifact)
    with pytest.raises(kind, match=message):
        add_keys(artifact / "server", {"camera-7": camera})
    assert contents(artifact) == before
    assert [path.name for path in (artifact / "server/keys").iterdir()] == ["main"]


def test_a_readout_that_is_no_token_is_refused(key: SecurityKey, tmp_path: Path) -> None:
    artifact = export_tiny(tmp_path / "service", key, ORACLES["v1_first_token"])
    camera = enrolled(artifact, tmp_path / "camera", key) / "server"
    change_tensor(camera, "readout.index", lambda _: np.array(64))
    with pytest.raises(ArtifactError, match=r"readout\.index is 64"):
        add_keys(artifact / "server", {"camera-7": camera})


SIGNATURES: dict[str, tuple[Breakage, str]] = {
    "unsigned": (lambda c: (c / KEY_SIGNATURE).unlink(), "is not signed, and a key is pinned"),
    "by another": (
        lambda c: (c / KEY_SIGNATURE).write_bytes(STRANGER.sign_key((c / KEY_MANIFEST).read_bytes())),
        "is invalid",
    ),
    "of another manifest": (
        lambda c: edit_json(c / KEY_MANIFEST, lambda key: key.update(made_by={})),
        "is invalid",
    ),
    "damaged": (lambda c: (c / KEY_SIGNATURE).write_bytes(b"x"), "is damaged"),
}


@pytest.mark.parametrize(("breakage", "message"), SIGNATURES.values(), ids=SIGNATURES)
def test_under_a_pin_only_what_the_owner_has_signed_is_added(
    artifact: Path, key: SecurityKey, tmp_path: Path, breakage: Breakage, message: str
) -> None:
    sign(artifact, signing_key=OWNER)
    good = enrolled(artifact, tmp_path / "good", key, "good", signing_key=OWNER) / "server"
    bad = enrolled(artifact, tmp_path / "bad", key, "bad", signing_key=OWNER) / "server"
    breakage(bad)
    add_keys(artifact / "server", {"good": good}, signed_by=PIN)
    before = contents(artifact)
    with pytest.raises(SignatureError, match=message):
        add_keys(artifact / "server", {"bad": bad}, signed_by=PIN)
    assert contents(artifact) == before


def test_a_name_and_a_key_are_there_once(artifact: Path, key: SecurityKey, camera: Path, tmp_path: Path) -> None:
    server = artifact / "server"
    add_keys(server, {"camera-7": camera})
    other = enrolled(artifact, tmp_path / "other", key, "camera-8") / "server"
    before = contents(artifact)
    with pytest.raises(ExistsError, match="nothing is overwritten"):
        add_keys(server, {"camera-7": other})
    with pytest.raises(MismatchError, match=r"camera-7 of .* is for the same key and salt"):
        add_keys(server, {"again": camera})
    for name in ("", ".x", "a/b", "x" * 65):
        with pytest.raises(ArtifactError, match="expected a name"):
            add_keys(server, {name: other})
        with pytest.raises(ArtifactError, match="has no key folder"):
            remove_key(server, name)
    assert contents(artifact) == before


def test_a_model_that_answers_wrongly_takes_no_key(
    artifact: Path, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = backend.OnnxRuntimeSession._compute
    monkeypatch.setattr(backend.OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips) + 0.01)
    with pytest.raises(ParityError, match="fails the probe"):
        add_keys(artifact / "server", {"camera-7": camera})
    assert list(find_keys(artifact / "server")) == ["main"]


@pytest.mark.parametrize("name", ["model.onnx", PROBE, "manifest.json"])
def test_a_damaged_model_takes_no_key(artifact: Path, camera: Path, name: str) -> None:
    flip_a_byte(artifact / "server" / name)
    with pytest.raises(LcveError):
        add_keys(artifact / "server", {"camera-7": camera})
    assert list(find_keys(artifact / "server")) == ["main"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_apply_leaves_nothing(artifact: Path, camera: Path, number: signal.Signals) -> None:
    program = (
        "import time\nfrom lcve_deploy.verbs import apply\n"
        "apply._Adding._prove = lambda *_: time.sleep(60)\nfrom lcve_deploy.cli import lcve\nlcve()"
    )
    arguments = ["apply", str(artifact / "server"), str(camera)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
    )
    deadline = time.monotonic() + 60
    while not list(artifact.glob(f"server/keys/.camera-7.*/{PROBE}")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    assert [path.name for path in (artifact / "server/keys").iterdir()] == ["main"]


def test_an_apply_that_fails_halfway_leaves_nothing(
    artifact: Path, camera: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(WriteError, match="No space left"):
        add_keys(artifact / "server", {"camera-7": camera})
    assert [path.name for path in (artifact / "server/keys").iterdir()] == ["main"]


def test_applying_loads_no_key_room_and_no_torch(artifact: Path, camera: Path) -> None:
    code = "from lcve_deploy.cli import lcve\nlcve(sys.argv[1:], standalone_mode=False)"
    modules = loaded_after(code, "apply", artifact / "server", camera)
    rooms = {f"lcve_deploy.{room}" for room in set(KEY_ROOMS) - {"verbs", "exporters"}}
    assert not modules & {*rooms, "lcve_deploy.verbs.rotate", "lcve_deploy.verbs.export", "lcve_deploy.verbs.pairs"}
    assert not modules & {"torch", "transformers", "cryptography", "av", "onnx", "onnx_ir"}


def test_the_commands_of_an_operator(artifact: Path, key: SecurityKey, camera: Path, tmp_path: Path) -> None:
    server = artifact / "server"
    out = rotated(artifact, tmp_path / "out", key)
    assert "camera-7: ok, max" in run_ok("apply", server, camera.parent)
    assert "camera-7: was added before" in run_ok("apply", server, camera)
    said = json.loads(run_ok("apply", server, out / "server", "--name", "main-2", "--replace", "main", "--json"))
    assert (said["signature"], said["removed"], said["keys"][0]["name"]) == ("none", "main", "main-2")
    assert said["keys"][0]["probe"]["ok"]
    assert said["keys"][0]["salt"] == read_key_manifest(server / "keys/main-2").binding.salt
    assert sorted(find_keys(server)) == ["camera-7", "main-2"]
    assert "out: ok" in run_ok("apply", _without_key(artifact, "main-2"), out / "server")


def test_many_keys_are_added_in_one_call(artifact: Path, key: SecurityKey, tmp_path: Path) -> None:
    folders = [enrolled(artifact, tmp_path / name, key, name) / "server" for name in ("a", "b", "c")]
    assert run_ok("apply", artifact / "server", *folders).count(": ok, max") == 3
    assert sorted(find_keys(artifact / "server")) == ["a", "b", "c", "main"]


def _without_key(artifact: Path, name: str) -> Path:
    shutil.rmtree(artifact / "server/keys" / name)
    return artifact / "server"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--name", "a/b"), "expected a name of 1 to 64"),
        (("--replace", "none"), "has no key folder 'none'"),
        (("--name", "main"), "nothing is overwritten"),
        (("{camera}", "--name", "a"), "--name is for one key folder"),
        (("{camera}", "--replace", "main"), "two key folders are called camera-7"),
    ],
)
def test_the_commands_of_an_operator_fail_clearly(
    artifact: Path, camera: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = contents(artifact)
    said = run_error("apply", artifact / "server", camera, *(a.format(camera=camera) for a in arguments))
    assert message in said
    assert contents(artifact) == before
    assert "expected manifest.json" in run_error("apply", artifact, camera)
