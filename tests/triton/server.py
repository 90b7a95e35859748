"""Starting and ending Triton."""

from __future__ import annotations

import contextlib
import http.client
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

__all__ = ["Triton", "start_triton"]

ENVIRONMENT: Final = Path(__file__).parents[2] / ".venv-triton"
"""Made by ``make triton``."""
_HERE: Final = Path(__file__).parent
_START: Final = 60.0
_END: Final = 20.0
_ATTEMPTS: Final = 3


@dataclass(frozen=True, kw_only=True)
class Triton:
    """A server that runs.

    Args:
        http: host and port.
        grpc: host and port.
        metrics: host and port.
        log_file: where it writes what it does.
    """

    http: str
    grpc: str
    metrics: str
    log_file: Path

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self.log_file.read_text()


def site_packages() -> Path:
    """Of the environment with Triton; skips the test where there is no Triton for this machine."""
    found = sorted(ENVIRONMENT.glob("lib/python3.*/site-packages"))
    if found and (found[0] / "pytriton").is_dir():
        return found[0]
    if sys.platform == "linux" and platform.machine() == "x86_64" and sys.version_info < (3, 13):
        pytest.fail("there is no Triton yet; install it: make triton", pytrace=False)
    pytest.skip("Triton is for Linux on x86-64, and this backend of it for Python before 3.13")


@contextlib.contextmanager
def start_triton(repository: Path, work: Path, *arguments: str, strict: bool = True) -> Iterator[Triton]:
    """Serve a model repository on loopback, and end the server with the block.

    Args:
        repository: of models.
        work: an empty folder for backends and the log.
        arguments: of ``tritonserver``, besides.
        strict: whether all models must be ready.
    """
    packages = site_packages()
    backends = _lay_out_backends(packages, work / "backends")
    for attempt in range(_ATTEMPTS):
        server = _at_free_ports(work / f"triton-{attempt}.log")
        process = _launch(packages, [*_options(repository, backends, server), *arguments], server.log_file)
        try:
            if _wait(process, server, strict):
                yield server
                return
        finally:
            _end(process)
        if "Address already in use" not in server.log and "Socket" not in server.log:
            break
    pytest.fail(f"Triton did not start:\n{server.log}", pytrace=False)


def _lay_out_backends(packages: Path, folder: Path) -> Path:
    """The Python backend with the stub of this Python, and ours. They are copied: Triton refuses links."""
    shipped = packages / "pytriton/tritonserver"
    if not folder.is_dir():
        shutil.copytree(shipped / "backends/python", folder / "python")
        version = packages.parent.name.removeprefix("python")
        shutil.copy(shipped / "python_backend_stubs" / version / "triton_python_backend_stub", folder / "python")
        (folder / "onnxruntime").mkdir()
        shutil.copyfile(_HERE / "backend.py", folder / "onnxruntime/model.py")
    return folder


def _at_free_ports(log_file: Path) -> Triton:
    """Ports that the system chooses. Triton does not say which it got for 0, so they are let go again first."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        http, grpc, metrics = (f"127.0.0.1:{each.getsockname()[1]}" for each in sockets)
    return Triton(http=http, grpc=grpc, metrics=metrics, log_file=log_file)


def _options(repository: Path, backends: Path, server: Triton) -> list[str]:
    addresses = {"http": server.http, "grpc": server.grpc, "metrics": server.metrics}
    ports = [f"--{kind}-port={address.partition(':')[2]}" for kind, address in addresses.items()]
    return [
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        *(f"--{kind}-address=127.0.0.1" for kind in addresses),
        *ports,
        "--exit-timeout-secs=5",
        "--disable-auto-complete-config",
    ]


def _launch(packages: Path, arguments: list[str], log_file: Path) -> subprocess.Popen[bytes]:
    """The backend takes the Python that is first on PATH, and overlooks PYTHONPATH."""
    environment = {
        **os.environ,
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "OMP_NUM_THREADS": "1",
    }
    binary = packages / "pytriton/tritonserver/bin/tritonserver"
    with log_file.open("wb") as log:
        return subprocess.Popen(
            [binary, *arguments], env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


def _wait(process: subprocess.Popen[bytes], server: Triton, strict: bool) -> bool:
    """Whether it got ready."""
    path = "/v2/health/ready" if strict else "/v2/health/live"
    end = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(server.http, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status == http.client.OK:
                return True
        time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end; its backend's processes end with it, or are killed with it."""
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
