"""Artifacts of format 1 are converted, and are opened by nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file

from lcve_deploy import Client, PlainClip, SecurityKey, convert, enroll, open_session, verify_server
from lcve_deploy.artifact import read_client, read_manifest
from lcve_deploy.artifact.names import PROBE
from lcve_deploy.errors import ArtifactError, ExistsError, LcveError, MismatchError, ParityError
from lcve_deploy.runtime.backends import onnxruntime as backend
from lcve_deploy.verbs.verify import verify
from tests.conftest import run_error, run_ok
from tests.keys.helpers import NEW_KEY, Breakage
from tests.signing.helpers import OWNER, PIN
from tests.support.artifacts import binding_of, contents, edit_json, flip_a_byte, key_of

OLD = Path(__file__).parents[1] / "data/format_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the old artifact, to break."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


def old_logits(artifact: Path, clips: np.ndarray) -> np.ndarray:
    """What the old graph answers, which ONNX Runtime opens without this package."""
    session = onnxruntime.InferenceSession(artifact / "server/model.onnx", providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"clips": clips})[0])


def test_a_converted_artifact_gives_the_old_answers_to_the_old_clips(
    key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    result = convert(OLD, tmp_path / "new", key=key)
    server, client = tmp_path / "new/server", Client.open(tmp_path / "new/client", key)
    before = json.loads((OLD / "client/client.json").read_text())
    assert (client.settings.binding.salt, client.settings.binding.key_id) == (before["salt"], before["key_id"])
    encrypted = client.encrypt(PlainClip(values=np.stack([clip, 255 - clip])))
    logits = open_session(server).run(encrypted)
    np.testing.assert_allclose(logits, old_logits(OLD, encrypted.values), atol=1e-5)
    probe = load_file(OLD / "server" / PROBE)
    kept = key_of(server).probe()
    np.testing.assert_array_equal(kept.clip, probe["clip"])
    np.testing.assert_array_equal(kept.logits, probe["logits"])
    assert verify_server(server).ok
    assert result.manifest.parity == read_manifest(server).parity
    assert json.loads((OLD / "server/manifest.json").read_text())["parity"]["max_difference"] == (
        result.manifest.parity.max_difference
    )
    assert "lcve-deploy/convert" in result.manifest.made_by


def test_a_converted_artifact_takes_further_keys(key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    convert(OLD, tmp_path / "new", key=key, key_name="first")
    camera = enroll(tmp_path / "new", "camera-7", tmp_path / "camera", key=key).enrolled[0].folder
    shutil.copytree(camera / "server", tmp_path / "new/server/keys/camera-7")
    session = open_session(tmp_path / "new/server")
    plain = []
    for folder, owner in ((tmp_path / "new/client", key), (camera / "client", key.derive("camera-7"))):
        client = Client.open(folder, owner)
        plain.append(client.plain_order(session.run(client.encrypt(PlainClip(values=clip[None])))))
    np.testing.assert_allclose(plain[0], plain[1], atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "new/server/keys").iterdir()) == ["camera-7", "first"]


def test_a_converted_artifact_can_be_signed(key: SecurityKey, old: Path, tmp_path: Path) -> None:
    (old / "server/manifest.sig").write_bytes(bytes(64))
    assert any("was signed" in note for note in convert(old, tmp_path / "unsigned", key=key).notes)
    signed = convert(old, tmp_path / "signed", key=key, signing_key=OWNER)
    assert not any("was signed" in note for note in signed.notes)
    assert verify_server(tmp_path / "signed/server", signed_by=PIN).ok


def test_engines_are_not_carried_over(key: SecurityKey, old: Path, tmp_path: Path) -> None:
    (old / "server/engines/fast").mkdir(parents=True)
    (old / "server/engines/fast/engine.json").write_text("{}")
    assert any("engines are not carried over: fast;" in note for note in convert(old, tmp_path / "new", key=key).notes)
    assert not (tmp_path / "new/server/engines").exists()


def _manifest(change: Callable[[dict[str, Any]], object]) -> Breakage:
    return lambda artifact: edit_json(artifact / "server/manifest.json", change)


WRONG: dict[str, tuple[Breakage, type[LcveError], str]] = {
    "model damaged": (lambda a: flip_a_byte(a / "server/model.onnx"), ArtifactError, "a different SHA-256"),
    "probe damaged": (lambda a: flip_a_byte(a / "server" / PROBE), ArtifactError, "a different SHA-256"),
    "tensors gone": (lambda a: (a / "server/keyed.safetensors").unlink(), ArtifactError, "is missing"),
    "another manifest": (_manifest(lambda m: m.update(made_by={})), MismatchError, "was not made with the manifest"),
    "no labels": (_manifest(lambda m: m.pop("labels")), ArtifactError, "labels: missing"),
    "format 2": (_manifest(lambda m: m.update(format=2)), ArtifactError, "format: expected 1, received 2$"),
    "format 3": (_manifest(lambda m: m.update(format=3)), ArtifactError, "a newer version"),
    "no client": (lambda a: shutil.rmtree(a / "client"), ArtifactError, "expected client.json"),
    "a new client": (
        lambda a: edit_json(a / "client/client.json", lambda c: c.update(format=2)),
        ArtifactError,
        "format: expected 1, received 2",
    ),
    "other labels": (
        lambda a: edit_json(a / "client/client.json", lambda c: c.update(labels="shown")),
        MismatchError,
        "hidden labels, the client folder shown",
    ),
}


@pytest.mark.parametrize(("breakage", "kind", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_hold_is_not_converted(
    key: SecurityKey, old: Path, tmp_path: Path, breakage: Breakage, kind: type[LcveError], message: str
) -> None:
    breakage(old)
    before = contents(old)
    with pytest.raises(kind, match=message):
        convert(old, tmp_path / "new", key=key)
    assert contents(old) == before
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_another_key_an_output_and_a_wrong_answer(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MismatchError, match="key id"):
        convert(OLD, tmp_path / "new", key=NEW_KEY)
    with pytest.raises(ArtifactError, match="expected a name"):
        convert(OLD, tmp_path / "new", key=key, key_name="a/b")
    run = backend.OnnxRuntimeSession._compute
    monkeypatch.setattr(backend.OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips) + 0.01)
    with pytest.raises(ParityError, match="fails the probe"):
        convert(OLD, tmp_path / "new", key=key)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "new").mkdir()
    with pytest.raises(ExistsError):
        convert(OLD, tmp_path / "new", key=key)


def test_all_other_readers_say_what_to_do(key: SecurityKey, key_file: Path, tmp_path: Path) -> None:
    for read in (
        lambda: read_manifest(OLD / "server"),
        lambda: read_client(OLD / "client"),
        lambda: open_session(OLD / "server"),
        lambda: verify_server(OLD / "server"),
        lambda: enroll(OLD, "a", tmp_path / "out", key=key),
        lambda: verify(OLD, key=key, checkpoint="none.pth"),
    ):
        with pytest.raises(
            ArtifactError, match=r"format: expected 2, received 1.* convert the artifact with lcve convert"
        ):
            read()
    assert "lcve convert" in run_error("inspect", OLD)


def test_the_command(key_file: Path, old: Path, tmp_path: Path) -> None:
    shown = run_ok("convert", old, "--key", key_file)
    assert "note: the parity figures are those of the export" in shown
    assert binding_of(tmp_path / "old-converted/server").salt
    said = json.loads(run_ok("convert", old, "--key", key_file, "-o", tmp_path / "new", "--key-name", "k", "--json"))
    assert said["artifact"] == str(tmp_path / "new")
    assert (tmp_path / "new/server/keys/k/key.json").is_file()
    assert "received 2" in run_error("convert", tmp_path / "new", "--key", key_file, "-o", tmp_path / "again")
