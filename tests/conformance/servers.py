"""The servers under test: both are told the same of the same model."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.model import MAX_BATCH, MODEL, NAME
from tests.conftest import run_ok
from tests.triton.server import start_triton

__all__ = ["LCVE", "SERVERS", "TRITON", "Server", "start"]

TRITON: Final = "triton"
LCVE: Final = "lcve serve"
SERVERS: Final = (TRITON, LCVE)

_END: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs.

    Args:
        kind: of ``SERVERS``.
        http: host and port, and so on.
    """

    kind: str
    http: str
    grpc: str
    metrics: str


@contextlib.contextmanager
def start(kind: str, server_folder: Path, work: Path) -> Iterator[Server]:
    """Serve one server folder on loopback, and end the server with the block."""
    with _STARTS[kind](server_folder, work) as server:
        yield server


@contextlib.contextmanager
def _start_triton(server_folder: Path, work: Path) -> Iterator[Server]:
    run_ok("triton", f"{NAME}={server_folder}", "-o", work / "models", "--max-batch", MAX_BATCH)
    with start_triton(work / "models", work) as triton:
        yield Server(kind=TRITON, http=triton.http, grpc=triton.grpc, metrics=triton.metrics)


@contextlib.contextmanager
def _start_lcve(server_folder: Path, work: Path) -> Iterator[Server]:
    ports = [option for kind in ("http", "grpc", "metrics") for option in (f"--{kind}-port", "0")]
    command = [
        "serve",
        f"{MODEL}={server_folder}",
        *ports,
        "--max-batch",
        str(MAX_BATCH),
        "--shared-memory",
        "--shared-memory-prefix",
        "lcve-",
        "--json",
    ]
    program = Path(sys.executable).with_name("lcve")
    with (work / "serve.log").open("w") as log:
        process = subprocess.Popen([program, *command], stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, (work / "serve.log").read_text()
        said = json.loads(line)
        yield Server(kind=LCVE, **{kind: f"127.0.0.1:{said[kind]}" for kind in ("http", "grpc", "metrics")})
    finally:
        process.terminate()
        try:
            process.wait(_END)
        finally:
            process.kill()


_STARTS: Final = {TRITON: _start_triton, LCVE: _start_lcve}
