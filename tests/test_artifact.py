"""What a client or operator is handed may be wrong in any way: each is one clear error."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Client, EncryptedClip, Layout, PlainClip, SecurityKey, open_session, verify_server
from lcve_deploy.artifact import read_client, read_manifest, read_probe
from lcve_deploy.errors import ArtifactError, LcveError, MismatchError, SessionError
from lcve_deploy.runtime.backends import onnxruntime as backend
from lcve_deploy.runtime.probe import probe_model
from lcve_deploy.verbs.pairs import paired_client
from tests.support.artifacts import binding_of, flip_a_byte, key_folder, key_of
from tests.support.artifacts import edit_json as edit

Edit = Callable[[dict[str, Any]], object]


def test_manifest_and_client_settings_read_back_what_was_written(exported: Path) -> None:
    manifest, content = read_manifest(exported / "server"), read_client(exported / "client")
    assert json.loads(json.dumps(manifest.to_json())) == json.loads((exported / "server/manifest.json").read_text())
    written = json.loads((exported / "client/client.json").read_text())
    assert json.loads(json.dumps(content.to_json())) == written
    assert manifest.digest == content.manifest_sha256
    key, folder = key_of(exported / "server").manifest, key_folder(exported / "server")
    assert json.loads(json.dumps(key.to_json())) == json.loads((folder / "key.json").read_text())
    assert key.binding == content.settings.binding


WRONG_MANIFESTS: dict[str, tuple[Edit, str]] = {
    "format": (lambda m: m.update(format=3), "format"),
    "an older format": (lambda m: m.update(format=1), "convert the artifact with lcve convert"),
    "kind": (lambda m: m.update(kind="key"), "kind"),
    "scheme": (lambda m: m.update(scheme="lcve-9"), "scheme"),
    "geometry": (lambda m: m.update(geometry="8x33x32x3/2x8x8"), "multiple of the cube"),
    "layout": (lambda m: m.update(layout="tokens"), "layout"),
    "missing": (lambda m: m.pop("precision"), "precision: missing"),
    "no bank": (lambda m: m.update(bank=[]), "bank: bank.cube_embedding.weight is missing"),
    "half of a classifier": (lambda m: m["bank"].pop(), "bank: bank.head.bias is missing"),
    "no positions": (lambda m: m["bank"].pop(1), "positions are missing: expected one of bank.positional_encoding"),
    "a bank in another order": (lambda m: m["bank"].reverse(), "in this order"),
    "a bank without keys": (lambda m: m["bank"][0].update(shape=[384, 48]), "null for the keys"),
    "a bank of another dtype": (lambda m: m["bank"][0].update(dtype="float16"), "expected float32"),
    "empty geometry": (lambda m: m.update(geometry=""), "geometry"),
    "empty layout": (lambda m: m.update(layout=""), "layout"),
    "no controls": (lambda m: m["parity"].update(controls={}), "parity"),
    "input": (lambda m: m["input"].update(shape=[None, 63, 384]), "input"),
    "input dtype": (lambda m: m["input"].update(dtype="float32"), "input"),
    "output": (lambda m: m["output"].update(shape=[None, None]), "output"),
    "digest": (lambda m: m["files"]["model.onnx"].update(sha256="00"), "sha256"),
    "no model": (lambda m: m["files"].pop("model.onnx"), "model.onnx is missing"),
    "parent path": (lambda m: m["files"].update({"../secret": m["files"]["model.onnx"]}), "leaves the folder"),
    "absolute path": (lambda m: m["files"].update({"/etc/passwd": m["files"]["model.onnx"]}), "relative path"),
    "windows path": (lambda m: m["files"].update({"C:\\x": m["files"]["model.onnx"]}), "relative path"),
    "parity": (lambda m: m["parity"].update(max_difference=1.0), "parity"),
    "control": (lambda m: m["parity"]["controls"].update(wrong_key=0.0), "parity"),
    "huge number": (lambda m: m["parity"].update(logit_scale=10**400), "parity.logit_scale"),
    "number": (lambda m: m["parity"].update(tolerance="small"), "parity.tolerance"),
}


@pytest.mark.parametrize(("change", "message"), WRONG_MANIFESTS.values(), ids=WRONG_MANIFESTS)
def test_a_manifest_that_does_not_hold_is_refused(artifact: Path, change: Edit, message: str) -> None:
    edit(artifact / "server/manifest.json", change)
    with pytest.raises(ArtifactError, match=message):
        open_session(artifact / "server")


def test_all_problems_are_named_at_once(artifact: Path) -> None:
    edit(artifact / "server/manifest.json", lambda m: m.update(format=3, layout="tokens", opset="new"))
    with pytest.raises(ArtifactError) as caught:
        read_manifest(artifact / "server")
    assert all(word in str(caught.value) for word in ("format", "layout", "opset"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(artifact: Path, content: bytes) -> None:
    (artifact / "server/manifest.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json"):
        open_session(artifact / "server")


@pytest.mark.parametrize("content", [{}, {"preprocess": {}}, {"classes": 5}])
def test_client_settings_that_do_not_hold_are_refused(artifact: Path, key: SecurityKey, content: object) -> None:
    (artifact / "client/client.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=r"client\.json"):
        Client.open(artifact / "client", key)


def test_preprocessing_must_make_the_geometry(artifact: Path, key: SecurityKey) -> None:
    edit(artifact / "client/client.json", lambda c: c["preprocess"].update(frames=16))
    with pytest.raises(ArtifactError, match="does not produce clips"):
        Client.open(artifact / "client", key)


@pytest.mark.parametrize("name", ["labels", "manifest_sha256", "scheme", "geometry"])
def test_empty_client_settings_are_refused(artifact: Path, key: SecurityKey, name: str) -> None:
    edit(artifact / "client/client.json", lambda c: c.update({name: ""}))
    with pytest.raises(ArtifactError, match=name):
        Client.open(artifact / "client", key)


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("text", r"assumptions\[0\]"),
        ({"fact": "weather", "value": "", "option": ""}, r"assumptions\[0\]\.fact"),
        ({"fact": "heads", "value": 3, "option": ""}, r"assumptions\[0\]\.value"),
        ({"fact": "heads", "value": "3"}, r"assumptions\[0\]\.option"),
    ],
)
def test_assumptions_that_do_not_hold_are_refused(artifact: Path, key: SecurityKey, entry: object, place: str) -> None:
    edit(artifact / "client/client.json", lambda c: c.update(assumptions=[entry]))
    with pytest.raises(ArtifactError, match=place):
        Client.open(artifact / "client", key)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda server: flip_a_byte(server / "model.onnx"), "model.onnx has a different SHA-256"),
        (lambda server: flip_a_byte(server / "probe.safetensors"), "probe.safetensors has a different SHA-256"),
        (lambda server: (server / "model.onnx").unlink(), "model.onnx is missing"),
        (lambda server: os.truncate(server / "model.onnx", 1000), "has 1000 bytes"),
    ],
    ids=["model", "probe", "missing", "truncated"],
)
def test_files_that_are_not_the_manifests_are_refused(
    artifact: Path, breakage: Callable[[Path], None], message: str
) -> None:
    breakage(artifact / "server")
    with pytest.raises(ArtifactError, match=message):
        open_session(artifact / "server")


def test_external_data_that_is_not_the_manifests_is_refused(
    key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lcve_deploy.exporters import storage
    from tests.test_export import export_tiny

    monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 100_000)
    artifact = export_tiny(tmp_path / "out", key)
    flip_a_byte(artifact / "server/model.onnx.data")
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data has a different SHA-256"):
        open_session(artifact / "server")


def test_files_that_the_manifest_does_not_list_are_refused(artifact: Path) -> None:
    """ONNX Runtime would load external data that nobody has checked."""
    (artifact / "server/model.onnx.data").write_bytes(b"unchecked")
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data is not listed"):
        open_session(artifact / "server")


def test_engines_built_by_the_operator_may_stand_beside(artifact: Path) -> None:
    (artifact / "server/engines").mkdir()
    (artifact / "server/engines/a.plan").write_bytes(b"engine")
    assert verify_server(artifact / "server").ok


def test_the_probes_tolerance_grows_with_its_logits(exported: Path) -> None:
    session = open_session(exported / "server")
    manifest = read_manifest(exported / "server")
    probe, parity = read_probe(exported / "server", manifest), manifest.parity
    growth = max(1.0, max(1.0, float(np.abs(probe.logits).max())) / max(1.0, parity.logit_scale))
    assert probe_model(session, probe, parity).tolerance == pytest.approx(parity.tolerance * growth)
    assert (
        probe_model(session, dataclasses.replace(probe, logits=probe.logits / 1e3), parity).tolerance
        == parity.tolerance
    )
    larger = dataclasses.replace(probe, logits=probe.logits + 1000)
    report = probe_model(session, larger, parity)
    assert report.tolerance > 500 * parity.tolerance
    assert not report.ok


def test_a_link_that_leaves_the_folder_is_refused(artifact: Path, tmp_path: Path) -> None:
    model = artifact / "server/model.onnx"
    model.rename(tmp_path / "elsewhere.onnx")
    model.symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtifactError, match="is a link"):
        open_session(artifact / "server")


def test_server_and_client_of_different_exports_are_refused(artifact: Path, key: SecurityKey) -> None:
    edit(artifact / "server/manifest.json", lambda m: m.update(made_by={}))
    with pytest.raises(MismatchError, match="was not made with the manifest of"):
        paired_client(artifact, key)


def test_a_wrong_key_is_refused_before_anything_runs(exported: Path) -> None:
    with pytest.raises(MismatchError, match="key id"):
        Client.open(exported / "client", SecurityKey(bytes(32)))


@pytest.mark.parametrize(
    ("field", "value"),
    [("scheme", "lcve-2"), ("layout", Layout.VIDEO), ("geometry", None)],
)
def test_a_clip_of_another_artifact_is_refused_before_anything_runs(
    exported: Path, key: SecurityKey, clip: np.ndarray, field: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_session(exported / "server")
    encrypted = Client.open(exported / "client", key).encrypt(PlainClip(values=clip[None]))
    values = encrypted.values
    if field == "layout":
        values = values.reshape(1, *encrypted.binding.geometry.clip_shape)
    if field == "geometry":
        value = dataclasses.replace(encrypted.binding.geometry, cube=(1, 8, 16))
        values = values.reshape(1, value.cubes, value.values)
    binding = dataclasses.replace(encrypted.binding, **{field: value})

    def must_not_run(*_: object) -> None:
        raise AssertionError("the engine ran")

    monkeypatch.setattr(session, "_session", type("Engine", (), {"run": must_not_run})())
    with pytest.raises(MismatchError, match=field.replace("_", " ")):
        session.run(EncryptedClip(values=values, binding=binding))


@pytest.mark.parametrize("values", [np.zeros((64, 384), np.uint8), np.zeros((1, 64, 384), np.float32)])
def test_a_session_takes_batches_of_bytes(exported: Path, values: np.ndarray) -> None:
    session = open_session(exported / "server")
    with pytest.raises(ValueError, match="uint8 clips with one batch axis"):
        session.run(EncryptedClip(values=values, binding=binding_of(exported / "server")))


def test_the_probe_finds_an_engine_that_answers_wrongly(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_server(exported / "server").ok
    run = backend.OnnxRuntimeSession._compute
    monkeypatch.setattr(backend.OnnxRuntimeSession, "_compute", lambda self, *clips: run(self, *clips) + 0.01)
    report = verify_server(exported / "server")
    assert not report.ok
    assert not report.keys["main"].ok
    with pytest.raises(LcveError, match="fails the probe"):
        report.model.require()


def test_a_model_that_onnx_runtime_refuses_is_one_clear_error(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not onnx")
    with pytest.raises(ArtifactError, match=r"model\.onnx cannot be used as an ONNX graph"):
        backend.OnnxRuntimeSession(tmp_path / "model.onnx", read_manifest(exported / "server").model)


def test_a_graph_that_contradicts_the_manifest_is_refused(exported: Path) -> None:
    model = read_manifest(exported / "server").model
    other = dataclasses.replace(model, output=dataclasses.replace(model.output, shape=(None, 6)))
    with pytest.raises(SessionError, match="its manifest says"):
        backend.OnnxRuntimeSession(exported / "server/model.onnx", other)
