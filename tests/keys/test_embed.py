"""A graph with one key inside runs by itself."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from lcve_deploy import ExportOptions, SecurityKey, embed, export
from lcve_deploy.errors import ArtifactError, ExistsError, MismatchError, ParityError, WriteError
from lcve_deploy.exporters import storage
from lcve_deploy.verbs import embed as embed_verb
from tests.conftest import ORACLES, run_ok
from tests.keys.helpers import encrypted, enrolled, main
from tests.support.artifacts import flip_a_byte
from tests.test_export import export_tiny


def run_alone(path: Path, clips: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_inputs()] == ["clips"]
    return np.asarray(session.run(None, {"clips": clips})[0])


@pytest.mark.parametrize("name", ["v1_model_args", "v1_first_token", "hf_vivit"])
@pytest.mark.parametrize("large", [False, True])
def test_an_embedded_key_gives_the_original_implementations_logits(
    key: SecurityKey, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, large: bool
) -> None:
    if large:
        monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 1000)
    oracle = ORACLES[name]
    artifact = export_tiny(tmp_path / "service", key, oracle)
    embed(artifact / "server", main(artifact), tmp_path / "one.onnx")
    assert (tmp_path / "one.onnx.data").exists() == large
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("one.onnx*")}
    assert modes == {0o666 & (tmp_path / "service").stat().st_mode}
    client, clips = encrypted(artifact / "client", key, np.stack([clip, 255 - clip]))
    logits = client.plain_order(run_alone(tmp_path / "one.onnx", clips.values))
    np.testing.assert_allclose(logits[0], oracle.logits, atol=1e-5)
    assert not np.allclose(logits[0], logits[1], atol=1e-3)


def test_an_export_can_embed_its_key(key_file: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    oracle = ORACLES["v1_model_args"]
    command = ("export", "--key", key_file, "--ckpt", oracle.path, *oracle.flags)
    run_ok(*command, "-o", tmp_path / "service", "--embed-key", tmp_path / "one.onnx", "--key-name", "k")
    client, clips = encrypted(tmp_path / "service/client", key, clip[None])
    logits = client.plain_order(run_alone(tmp_path / "one.onnx", clips.values))
    np.testing.assert_allclose(logits[0], oracle.logits, atol=1e-5)


def test_the_file_is_never_in_the_model_folder(artifact: Path, key: SecurityKey, tmp_path: Path) -> None:
    for place in (artifact / "server/one.onnx", artifact / "server/keys/one.onnx"):
        with pytest.raises(WriteError, match="outside of the model folder"):
            embed(artifact / "server", main(artifact), place)
    (tmp_path / "link").symlink_to(artifact / "server")
    with pytest.raises(WriteError, match="outside of the model folder"):
        embed(artifact / "server", main(artifact), tmp_path / "link/one.onnx")
    options = ExportOptions(checkpoint=ORACLES["v1_model_args"].options, embed_key=tmp_path / "new/server/one.onnx")
    with pytest.raises(WriteError):
        export(ORACLES["v1_model_args"].path, tmp_path / "new", key=key, options=options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "service"]


def test_what_does_not_hold_is_not_embedded(
    artifact: Path, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "one.onnx"
    other = enrolled(export_tiny(tmp_path / "other", key), tmp_path / "camera", key)
    with pytest.raises(MismatchError, match="was made for the model"):
        embed(artifact / "server", other / "server", output)
    with monkeypatch.context() as patch:
        patch.setattr(embed_verb, "_run", lambda path, clips: np.zeros((len(clips), 5), np.float32))
        with pytest.raises(ParityError, match="fails the probe"):
            embed(artifact / "server", main(artifact), output)
    for there in (output, tmp_path / "one.onnx.data"):
        there.touch()
        with pytest.raises(ExistsError):
            embed(artifact / "server", main(artifact), output)
        there.unlink()
    flip_a_byte(main(artifact) / "keyed.safetensors")
    with pytest.raises(ArtifactError, match="a different SHA-256"):
        embed(artifact / "server", main(artifact), output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera", "other", "service"]
