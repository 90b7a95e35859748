"""Built and proven."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.artifact import read_engine, read_manifest
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.errors import (
    SessionError,
)
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.build import BuildOptions, build
from tests.conftest import run_ok
from tests.engines.helpers import INT8, OPENVINO, TINY, logits_of
from tests.support.artifacts import key_of
from tests.support.engines import write_own_engine

ENGINES = [
    (BuildOptions(), 1e-5),
    (INT8, 0.1),
    (OPENVINO, 1e-5),
    (dataclasses.replace(OPENVINO, precision=Precision.INT8), 0.1),
]


@pytest.mark.parametrize(("options", "tolerance"), ENGINES, ids=[options.engine_name for options, _ in ENGINES])
def test_an_engine_answers_encrypted_clips_with_the_original_logits(
    artifact: Path,
    key: SecurityKey,
    clip: np.ndarray,
    encrypted: EncryptedClip,
    options: BuildOptions,
    tolerance: float,
) -> None:
    record = build(artifact / "server", options, clips=encrypted)
    assert record.proof is not None
    assert record.proof.max_difference <= record.proof.budget
    assert record.agreement is not None
    assert record.agreement.clips == 3
    assert read_engine(artifact / "server", record.name) == record
    received = logits_of(artifact, key, clip, record.name)
    np.testing.assert_allclose(received, TINY.logits, atol=tolerance)
    if record.precision is not Precision.FP32:
        assert not np.allclose(received, TINY.logits, atol=1e-6)


def test_an_engine_has_no_tensors_of_a_key(server: Path, encrypted: EncryptedClip) -> None:
    """A key never touches an engine, whichever key its clips have."""
    record = build(server, INT8, clips=encrypted)
    data = (engine_folder(server, record.name) / "model.onnx").read_bytes()
    assert set(record.files) == {"model.onnx"}
    for tensor in key_of(server).tensors().values():
        assert tensor.tobytes() not in data
        assert all(row.tobytes() not in data for row in tensor if row.ndim)


def test_verify_proves_an_engine_on_another_machine(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = build(server, BuildOptions()).name
    monkeypatch.setattr("lcve_deploy.runtime.backends.onnxruntime.cpu_name", lambda: "another CPU")
    with pytest.raises(SessionError, match=r"passed the probe on .*, but not on .*another CPU"):
        open_session(server, SessionOptions(engine=name))
    run_ok("verify", server, "--engine", name)
    assert open_session(server, SessionOptions(engine=name)).device.endswith("another CPU")


def test_an_engine_that_is_unproven_is_not_offered(server: Path) -> None:
    record = build(server, BuildOptions())
    write_own_engine(engine_folder(server, record.name), dataclasses.replace(record, proof=None))
    with pytest.raises(SessionError, match="is unproven"):
        open_session(server, SessionOptions(engine=record.name))
    with pytest.raises(SessionError, match=r"no engine in .* has passed the probe on this machine yet"):
        open_session(server, SessionOptions(engine="fastest"))
    assert f"engine {record.name}: ok" in run_ok("verify", server)
    assert open_session(server, SessionOptions(engine="fastest")).model == read_manifest(server).model


def test_the_owner_compares_an_engine_with_the_checkpoint(
    artifact: Path, key_file: Path, encrypted: EncryptedClip
) -> None:
    record = build(artifact / "server", INT8, clips=encrypted)
    report = json.loads(
        run_ok(
            *("verify", artifact, "--key", key_file, "--ckpt", TINY.path, "--num-heads", 3),
            *("--engine", record.name, "--json"),
        )
    )
    assert report["ok"]
    assert 1e-6 < report["max_difference"] <= report["tolerance"]
    assert min(report["controls"].values()) > 3 * report["tolerance"]
