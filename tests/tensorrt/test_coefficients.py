"""Graphs and sessions of ``lcve-dct-1``: integers in float16, and a step for each clip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, PlainClip, SecurityKey, open_session
from lcve_deploy.artifact import Profile, read_manifest
from lcve_deploy.client import Client
from lcve_deploy.clips import Scheme
from lcve_deploy.exporters.tensorrt.parse import check_graph
from lcve_deploy.libraries.tensorrt import TensorRT
from lcve_deploy.verbs.export import ExportOptions, export
from tests.conftest import ORACLES, SALT, SECRET
from tests.support import fake_gpu
from tests.tensorrt.helpers import Machine


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, oracle = tmp_path_factory.mktemp("dct") / "a", ORACLES["v1_first_token"]
    options = ExportOptions(checkpoint=oracle.options, salt=SALT, scheme=Scheme.DCT)
    export(oracle.path, folder, key=SecurityKey(SECRET), options=options)
    return folder


@pytest.fixture
def clips(artifact: Path, clip: np.ndarray) -> list[EncryptedClip]:
    """Clips of different steps."""
    client = Client.open(artifact / "client", SecurityKey(SECRET))
    plain = PlainClip(values=np.stack([clip, clip[::-1]]))
    return [client.encrypt(plain, step=step) for step in (4.0, 16.0, 90.0)]


@pytest.fixture
def coefficient_machine(machine: Machine, artifact: Path) -> Machine:
    server = artifact / "server"
    return dataclasses.replace(machine, server=server, manifest=read_manifest(server))


def test_rtx_takes_the_graph(artifact: Path, rtx: TensorRT) -> None:
    spec = read_manifest(artifact / "server").model
    check_graph(artifact / "server/model.onnx", spec=spec, library=rtx)


@pytest.mark.parametrize("sizes", [(1, 2, 3), (4, 4, 4), (1, 1, 1)])
def test_a_session_answers_as_the_graph_does(
    coefficient_machine: Machine, artifact: Path, clips: list[EncryptedClip], sizes: tuple[int, int, int]
) -> None:
    machine = coefficient_machine
    machine.plan.write_bytes(fake_gpu.plan_of(artifact / "server/model.onnx", sizes))
    session = machine.open(profile=Profile(minimum=sizes[0], optimum=sizes[1], maximum=sizes[2]))
    expected = open_session(artifact / "server").run_batch(clips)
    np.testing.assert_allclose(session.run_batch(clips), expected, atol=1e-5)
    for one, first in zip(clips, (0, 2, 4), strict=True):
        np.testing.assert_allclose(session.run(one), expected[first : first + 2], atol=1e-5)
