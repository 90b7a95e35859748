"""Servers and clients as processes: ``lcve serve``, a real Triton, and what they used of the machine."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from benchmarks.common.files import ROOT
from benchmarks.common.processes import LCVE, module
from lcve_deploy.deployments.triton.export import export_triton
from lcve_deploy.deployments.triton.model_folder import TritonOptions

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A server that runs.

    Args:
        grpc, http, metrics: host and port.
        process: its id; what it started counts with it.
        names: name by which it serves each model; Triton serves the keys of a model as models of their own.
    """

    grpc: str
    http: str
    metrics: str
    process: int
    names: Mapping[str, str]

    @property
    def cpu_seconds(self) -> float:
        """Processor time of the server so far."""
        return sum(_cpu_seconds(number) for number in _family(self.process))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes in memory: now, and the most there ever were."""
        status = [Path(f"/proc/{number}/status").read_text() for number in _family(self.process)]
        fields = {"now": "VmRSS", "most": "VmHWM"}
        return {name: sum(_kibibytes(text, field) * 1024 for text in status) for name, field in fields.items()}

    def statistics(self, model: str) -> dict[str, Any]:
        """What the server itself counts of a model."""
        with urllib.request.urlopen(f"http://{self.http}/v2/models/{self.names[model]}/stats") as answer:
            (stats,) = json.load(answer)["model_stats"]
        spent = {
            name: stats["inference_stats"][name] for name in ("success", "queue", "compute_input", "compute_infer")
        }
        return {
            "requests": spent["success"]["count"],
            "clips": stats["inference_count"],
            "runs": stats["execution_count"],
            **{name: value["ns"] / 1e9 for name, value in spent.items()},
        }


@contextlib.contextmanager
def lcve_serve(models: Mapping[str, Path], work: Path, *options: str) -> Iterator[Endpoint]:
    """``lcve serve`` on ports of the system's choice; its log goes to a file, as an operator's does."""
    sources = [f"{name}={folder}" for name, folder in models.items()]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    command = [*LCVE, "serve", *sources, *ports, "--json", *options]
    with (work / "lcve.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        ports_line = process.stdout.readline()  # type: ignore[union-attr]
        if not ports_line:
            raise RuntimeError(f"lcve serve did not start:\n{(work / 'lcve.log').read_text()}")
        at = json.loads(ports_line)
        addresses = {name: f"127.0.0.1:{at[name]}" for name in ("grpc", "http", "metrics")}
        yield Endpoint(**addresses, process=process.pid, names={name: name for name in models})
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def echo() -> Iterator[Endpoint]:
    """``echo.py``, which has no HTTP, no metrics and no statistics."""
    process = subprocess.Popen(module("serving.echo"), stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        port = int(process.stdout.readline())  # type: ignore[union-attr]
        yield Endpoint(grpc=f"127.0.0.1:{port}", http="", metrics="", process=process.pid, names={})
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def triton(models: Mapping[str, Path], work: Path, *, largest: int) -> Iterator[Endpoint]:
    """The Triton of the tests, with ``backend.py``, and without the log of each request."""
    from tests.triton.server import _lay_out_backends, site_packages, start_triton

    folder = work / "triton"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    exported = export_triton(models, folder / "models", TritonOptions(max_batch=largest, queue_delay=0.0))
    names = {name: model.config.name for name, model in zip(models, exported, strict=True)}
    backends = _lay_out_backends(site_packages(), folder / "backends")
    shutil.copyfile(Path(__file__).with_name("backend.py"), backends / "onnxruntime/model.py")
    with start_triton(folder / "models", folder, "--log-info=0") as server:
        process = _listener(server.grpc)
        addresses = {"grpc": server.grpc, "http": server.http, "metrics": server.metrics}
        yield Endpoint(**addresses, process=process, names=names)


def triton_is_there() -> bool:
    """Whether ``make triton`` has been run."""
    from tests.triton.server import ENVIRONMENT

    return any(ENVIRONMENT.glob("lib/python3.*/site-packages/pytriton"))


class Clients:
    """The process of the clients."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            module("serving.load"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        self._input, self._output = cast(IO[str], self._process.stdin), cast(IO[str], self._process.stdout)

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, *_: object) -> None:
        self._input.close()
        self._process.wait()

    def run(self, loop: str, **task: Any) -> dict[str, Any]:
        """Figures of one task of ``load.py``.

        Raises:
            RuntimeError: a request failed that must succeed, or the process ended.
        """
        self._input.write(json.dumps({"loop": loop, **task}) + "\n")
        self._input.flush()
        line = self._output.readline()
        if not line:
            raise RuntimeError("the clients' process ended")
        figures: dict[str, Any] = json.loads(line)
        if "error" in figures:
            raise RuntimeError(figures["error"])
        return figures


def _family(process: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    family: list[int] = [process]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _kibibytes(status: str, field: str) -> int:
    match = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) if match else 0


def _listener(address: str) -> int:
    """The child of this process that listens at an address."""
    for number in _family(os.getpid())[1:]:
        words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        if f"--grpc-port={address.partition(':')[2]}".encode() in words:
            return number
    raise RuntimeError(f"nothing of this process listens at {address}")


def sequence(names: Sequence[str], turn: int) -> list[str]:
    """The names in the order of a round: another one begins each time."""
    first = turn % len(names)
    return [*names[first:], *names[:first]]
