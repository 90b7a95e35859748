"""Engines of ``lcve-dct-1`` on the CPU: proven by the same probe, calibrated on packed clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import PlainClip, SecurityKey, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind, read_manifest
from lcve_deploy.client import Client
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.int8 import calibrate
from lcve_deploy.model.precision import Precision
from lcve_deploy.verbs.build import BuildOptions, build, read_sample
from lcve_deploy.verbs.export import ExportOptions, export
from tests.conftest import ORACLES, SALT, SECRET


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, oracle = tmp_path_factory.mktemp("dct") / "a", ORACLES["v1_first_token"]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=Scheme.DCT)
    export(oracle.path, folder, key=SecurityKey(SECRET), options=options)
    return folder


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        (EngineKind.OPENVINO, Precision.FP32),
        (EngineKind.OPENVINO, Precision.INT8),
        (EngineKind.ONNXRUNTIME, Precision.INT8),
    ],
)
def test_an_engine_is_built_and_answers(
    artifact: Path, clip: np.ndarray, kind: EngineKind, precision: Precision
) -> None:
    if kind is EngineKind.OPENVINO:
        pytest.importorskip("openvino")
    client = Client.open(artifact / "client", SecurityKey(SECRET))
    clips = client.encrypt(PlainClip(values=np.stack([clip, clip[::-1], clip[:, ::-1]])))
    name = f"{kind}-{precision}"
    built = build(artifact / "server", BuildOptions(kind=kind, precision=precision, name=name), clips=clips)
    assert built.proof is not None
    session = open_session(artifact / "server", SessionOptions(engine=name))
    coarse = client.encrypt(PlainClip(values=clip[None]), step=60.0)
    expected = open_session(artifact / "server").run_batch([clips, coarse])
    np.testing.assert_allclose(session.run_batch([clips, coarse]), expected, atol=built.proof.budget)


def test_ranges_of_int8_are_those_of_the_plain_clip(artifact: Path, clip: np.ndarray, tmp_path: Path) -> None:
    """The product of the coefficients stays float32; what the blocks read has the values of the other scheme."""
    raw, oracle, key = tmp_path / "raw", ORACLES["v1_first_token"], SecurityKey(SECRET)
    export(oracle.path, raw, key=key, options=ExportOptions(checkpoint=oracle.options, salt=SALT))
    clips, ranges = PlainClip(values=np.stack([clip, clip[::-1]])), []
    for folder, step in ((raw, None), (artifact, 1.5)):
        encrypted = Client.open(folder / "client", key).encrypt(clips, step=step)
        sample = read_sample(folder / "server", read_manifest(folder / "server"), encrypted, None)
        ranges.append(calibrate(folder / "server/model.onnx", encrypted.values, sample.tensors))
    assert not [name for name in ranges[1] if "embedding" in name]
    assert ranges[1] == pytest.approx(ranges[0], rel=0.02)
