"""What may be loaded where. The import contracts in pyproject.toml are checked by ``make check``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import lcve_deploy
from lcve_deploy import SecurityKey

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "transformers", "av", "cupy", "tensorrt", "tensorrt_rtx")
KEY_ROOMS = ("keys", "cipher", "client", "verbs", "exporters")


def loaded_after(code: str, *arguments: object) -> set[str]:
    """Modules that a fresh interpreter has loaded after ``code``."""
    program = f"import sys\n{code}\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def key_rooms_in(modules: set[str]) -> set[str]:
    return {f"lcve_deploy.{room}" for room in KEY_ROOMS} & modules


def test_importing_the_package_loads_no_heavy_library_and_no_key_room() -> None:
    modules = loaded_after("import lcve_deploy")
    assert not modules & {*HEAVY, "numpy", "cryptography"}
    assert not key_rooms_in(modules)


@pytest.mark.parametrize(
    "room", ["client", "cipher.clips", "clipfile", "artifact", "video", "verbs.watch", "runtime", "cli"]
)
def test_rooms_of_client_and_server_load_no_heavy_library(room: str) -> None:
    assert not loaded_after(f"import lcve_deploy.{room}") & set(HEAVY)


def test_the_server_rooms_load_no_key_room() -> None:
    modules = loaded_after("import lcve_deploy.runtime, lcve_deploy.runtime.backends.onnxruntime, lcve_deploy.artifact")
    assert not key_rooms_in(modules)


OPERATOR = """
from lcve_deploy.cli import lcve
lcve(sys.argv[1:], standalone_mode=False)
"""


def test_the_operators_commands_load_no_key_room_and_no_torch(exported: Path, key_file: Path, tmp_path: Path) -> None:
    from tests.conftest import ORACLE, run_ok

    clip = tmp_path / "clip.lcve"
    run_ok(
        *("encrypt", ORACLE / "clip_8x32x32.npy", "--key", key_file),
        *("--client", exported / "client", "-o", clip),
    )
    for arguments in (("run", exported / "server", clip), ("verify", exported / "server"), ("inspect", clip)):
        modules = loaded_after(OPERATOR, *arguments)
        assert "lcve_deploy.clipfile" in modules or "lcve_deploy.runtime" in modules
        assert not key_rooms_in(modules)
        assert not modules & {"torch", "transformers", "cryptography", "av"}


def test_no_order_shows_in_a_repr(exported: Path, key: SecurityKey) -> None:
    client = lcve_deploy.Client.open(exported / "client", key)
    assert client.orders.label_order is not None
    assert "array" not in repr(client)
    assert str(client.orders.label_order.tolist())[1:-1] not in repr(client)
