"""Artifacts of the scheme ``lcve-dct-1``: exact on the clip as the model sees it, in every family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, PlainClip, SecurityKey, open_session
from lcve_deploy.artifact import read_manifest
from lcve_deploy.client import Client
from lcve_deploy.clips import Scheme
from lcve_deploy.errors import MismatchError
from lcve_deploy.exporters.checkpoints import load_checkpoint
from lcve_deploy.exporters.reference.builtin import BuiltinReference
from lcve_deploy.runtime.probe import verify_server
from lcve_deploy.verbs.embed import embed
from lcve_deploy.verbs.enroll import enroll
from lcve_deploy.verbs.export import ExportOptions, export
from tests.conftest import ORACLES, SALT

NAMES = ["v1_module_learnable", "v1_first_token", "v2_cos", "hf_vivit", "hf_videomae_first_token"]


def exported_as(place: Path, name: str, key: SecurityKey, scheme: Scheme = Scheme.DCT) -> Path:
    oracle = ORACLES[name]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=scheme)
    export(oracle.path, place, key=key, options=options)
    return place


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported_as(tmp_path_factory.mktemp("dct") / "a", "v1_first_token", SecurityKey(bytes(range(32))))


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_plain_model_on_the_decrypted_clip(
    name: str, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    folder = exported_as(tmp_path / "a", name, key)
    client, session = Client.open(folder / "client", key), open_session(folder / "server")
    oracle = ORACLES[name]
    reference = BuiltinReference(load_checkpoint(oracle.path, oracle.options).model)
    for step in (4.0, 16.0, 100.0):
        encrypted = client.encrypt(PlainClip(values=np.stack([clip, clip[::-1]])), step=step)
        seen = client.decrypt(encrypted).values
        received = client.plain_order(session.run(encrypted))
        expected = reference.logits(seen)
        np.testing.assert_allclose(received, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def test_the_manifest_says_what_the_graph_takes(artifact: Path) -> None:
    model = read_manifest(artifact / "server").model
    assert (model.scheme, str(model.layout), model.input.dtype) == ("lcve-dct-1", "cubes", "float16")
    assert [spec.name for spec in model.clip_inputs] == ["clips", "step"]


def test_the_artifact_verifies(artifact: Path) -> None:
    report = verify_server(artifact / "server")
    assert report.ok
    assert list(report.keys) == ["main"]


def test_clips_with_different_steps_share_a_batch(artifact: Path, key: SecurityKey, clip: np.ndarray) -> None:
    client, session = Client.open(artifact / "client", key), open_session(artifact / "server")
    clips = [client.encrypt(PlainClip(values=clip[None]), step=step) for step in (4.0, 16.0, 60.0)]
    together = session.run_batch(clips)
    for one, logits in zip(clips, together, strict=True):
        np.testing.assert_allclose(session.run(one)[0], logits, atol=1e-5)


def test_a_clip_of_the_other_scheme_is_refused(
    artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    raw = exported_as(tmp_path / "raw", "v1_first_token", key, Scheme.LCVE)
    for client_of, server_of in ((raw, artifact), (artifact, raw)):
        encrypted = Client.open(client_of / "client", key).encrypt(PlainClip(values=clip[None]))
        with pytest.raises(MismatchError, match="scheme"):
            open_session(server_of / "server").run(encrypted)


def test_another_key_answers_alike(artifact: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    enroll(artifact, "camera", tmp_path / "camera", key=key)
    folder = tmp_path / "camera"
    (artifact / "server/keys/camera").mkdir(exist_ok=True)
    for path in (folder / "server").iterdir():
        (artifact / "server/keys/camera" / path.name).write_bytes(path.read_bytes())
    assert verify_server(artifact / "server").ok
    first = Client.open(artifact / "client", key)
    second = Client.open(folder / "client", SecurityKey.read(folder / "key.bin"))
    session, plain = open_session(artifact / "server"), PlainClip(values=clip[None])
    expected, received = (one.plain_order(session.run(one.encrypt(plain))) for one in (first, second))
    np.testing.assert_allclose(received, expected, atol=1e-5)


def test_a_graph_of_one_key_answers_the_probe(artifact: Path, tmp_path: Path) -> None:
    embed(artifact / "server", artifact / "server/keys/main", tmp_path / "one.onnx")
    assert (tmp_path / "one.onnx").is_file()


def test_records_need_one_batch_axis(artifact: Path, key: SecurityKey, clip: np.ndarray) -> None:
    encrypted = Client.open(artifact / "client", key).encrypt(PlainClip(values=clip[None]))
    session = open_session(artifact / "server")
    with pytest.raises(ValueError, match="one batch axis"):
        session.run(EncryptedClip(values=encrypted.values[None], binding=encrypted.binding))
    with pytest.raises(ValueError, match="at least one clip"):
        session.run(EncryptedClip(values=encrypted.values[:0], binding=encrypted.binding))
