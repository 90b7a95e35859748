"""What it needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.helpers import BINDING
from tests.support.fake_server import GrpcServer, HttpServer, Model

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all
BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnx_ir", "onnxruntime", "tensorrt", "openvino", "av"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
from lcve_deploy import RemoteSession
from tests.remote.helpers import BINDING, QUICK, clips
for address in sys.argv[1:]:
    with RemoteSession(address, BINDING, QUICK) as session:
        print(session.run(clips()).shape)
"""


def test_it_works_without_any_engine() -> None:
    with GrpcServer(Model(BINDING)) as one, HttpServer(Model(BINDING)) as two:
        command = [sys.executable, "-c", BLOCKED, one.address, two.address]
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert result.stdout.split("\n")[:2] == ["(1, 5)", "(1, 5)"]
