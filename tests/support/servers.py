"""``lcve serve`` as processes of their own, for tests that look at it from outside.

    with serving(exported / "server", "--grace", 5) as server:
        ask_http(server, clips)

Ports are the system's choice, the log is a file, and a server is ended by its process id. ``SLOW`` and other code that
runs in the server's process before ``lcve`` makes faults that no option makes.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lcve_deploy import EncryptedClip, SessionOptions, open_session
from lcve_deploy.protocol.binding import binding_to_parameters
from tests.support.artifacts import KEY, random_clip
from tests.support.warm import Warm, WarmProcess

START_SECONDS = 60.0
NAME = "model"
LENGTH = "Inference-Header-Content-Length"
PORTS = ("--http-port", 0, "--grpc-port", 0, "--metrics-port", 0)

_WARM = Warm(
    *(
        "onnxruntime",
        "safetensors.numpy",
        "grpc.aio",
        "grpc_health.v1.health_pb2_grpc",
        "grpc_reflection.v1alpha.reflection",
    ),
    *("google.protobuf.json_format", "tritonclient.grpc", "aiohttp.web", "prometheus_client"),
    *("lcve_deploy.serving", "lcve_deploy.runtime", "lcve_deploy.protocol", "lcve_deploy.cli.serve"),
)
_RUN = "import sys; from lcve_deploy.cli import lcve; lcve(sys.argv[1:])"


def slow(seconds: float) -> str:
    """Code for ``before``: every run of the engine takes that much longer, the probe's too."""
    return f"""
import time
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
run = OnnxRuntimeSession._compute
OnnxRuntimeSession._compute = lambda self, *given: time.sleep({seconds}) or run(self, *given)
"""


def held(gate: Path) -> str:
    """Code for ``before``: no run of the engine begins while a file is there, so that a test says when one ends."""
    return f"""
import pathlib, time
from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession
run = OnnxRuntimeSession._compute
def held(self, *given):
    while pathlib.Path({str(gate)!r}).exists():
        time.sleep(0.01)
    return run(self, *given)
OnnxRuntimeSession._compute = held
"""


@dataclass(kw_only=True)
class Server:
    """A server process, from the outside. Ports are None where it does not listen."""

    process: subprocess.Popen[str] | WarmProcess
    host: str
    http: int | None
    grpc: int | None
    metrics: int | None
    log_file: Path | None

    @property
    def pid(self) -> int:
        return self.process.pid

    def address(self, protocol: str = "grpc", name: str = NAME) -> str:
        """As a ``RemoteSession`` takes it."""
        port = self.grpc if protocol.startswith("grpc") else self.http
        return f"{protocol}://{self.host}:{port}/{name}"

    def log(self) -> list[dict[str, Any]]:
        """The whole lines of the log; those that are no JSON have them as ``raw``."""
        text = self.log_file.read_text(errors="replace") if self.log_file else ""
        lines = text[: text.rfind("\n") + 1].splitlines()
        return [json.loads(line) if line.startswith("{") else {"event": "raw", "raw": line} for line in lines]

    def wait_for(self, event: str, seconds: float = START_SECONDS, **fields: Any) -> dict[str, Any]:
        """The first line of the log with that event and those fields."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.log():
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} {fields} in the log: {self.log()[-20:]}")

    def wait_for_more(self, event: str, seen: int, seconds: float = START_SECONDS, **fields: Any) -> dict[str, Any]:
        """The first line with that event and those fields after so many lines of the log."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for line in self.log()[seen:]:
                if line["event"] == event and all(line.get(name) == value for name, value in fields.items()):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} {fields} in the log: {self.log()[seen:]}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = START_SECONDS) -> int:
        """Its exit status, once it has ended; negative where a signal ended it."""
        return self.process.wait(seconds)

    def end(self, seconds: float = START_SECONDS) -> int:
        """Tell it to end, and wait."""
        self.signal(signal.SIGTERM)
        return self.wait(seconds)

    def get(self, path: str, *, port: int | None = None) -> tuple[int, bytes]:
        return request(self.host, port or self.http or self.metrics, "GET", path)

    def value(self, name: str, **labels: str) -> float:
        """Sum of a metric over all series that have these labels."""
        _, text = self.get("/metrics", port=self.metrics)
        wanted = {f'{label}="{value}"' for label, value in labels.items()}
        lines = [line for line in text.decode().splitlines() if line.startswith((f"{name}{{", f"{name} "))]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(part in line for part in wanted))

    @property
    def rss(self) -> int:
        """Bytes of memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    @property
    def peak(self) -> int:
        """Bytes of memory at its most."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))

    @property
    def descriptors(self) -> int:
        return len([*Path(f"/proc/{self.pid}/fd").iterdir()])

    @property
    def threads(self) -> int:
        return len([*Path(f"/proc/{self.pid}/task").iterdir()])


@contextlib.contextmanager
def serving(
    folder: Path,
    *options: object,
    name: str = NAME,
    before: str = "",
    ports: tuple[object, ...] = PORTS,
    stderr: Any = None,
    environment: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    fresh: bool = False,
) -> Iterator[Server]:
    """A server for as long as the block runs; then it is killed, if it is still there.

    Args:
        folder: of the model: a server folder, or one of numbered server folders.
        options: of ``lcve serve``; further models too.
        name: of the model.
        before: Python code that runs in the process first, see :func:`slow`.
        ports: options that choose ports.
        stderr: where the log goes in place of a file: anything that ``subprocess`` takes.
        environment: more of it.
        prefix: a command that runs the command.
        fresh: whether Python is started for it; else, and without ``prefix``, it is forked from a process that has the
            libraries loaded.
    """
    with tempfile.TemporaryDirectory(prefix="lcve-serving-") as place:
        log_file = Path(place) / "log"
        code, arguments = f"{before}\n{_RUN}", ["serve", "--json", f"{name}={folder}", *map(str, ports), "--poll", "0"]
        arguments += map(str, options)
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(environment or {})}
        process: subprocess.Popen[str] | WarmProcess
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(log_file.open("w")) if stderr is None else stderr
            if fresh or prefix or not isinstance(log, io.TextIOBase):
                command = [*prefix, sys.executable, "-c", code, *arguments]
                process = stack.enter_context(
                    subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=variables)
                )
            else:
                process = stack.enter_context(_WARM.start(code, arguments, stderr=log.fileno(), environment=variables))
            stack.callback(_kill, process)
            yield _started(process, log_file if stderr is None else None)


def refused(*arguments: str) -> tuple[int, str, str]:
    """``lcve serve`` that does not start: exit status, output and errors."""
    with tempfile.TemporaryFile("w+") as errors:
        process = _WARM.start(_RUN, ["serve", *arguments], stderr=errors.fileno(), environment=os.environ)
        with process:
            output = process.stdout.read()
            status = process.wait(START_SECONDS)
        errors.seek(0)
        return status, output, errors.read()


def _kill(process: subprocess.Popen[str] | WarmProcess) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _started(process: subprocess.Popen[str] | WarmProcess, log_file: Path | None) -> Server:
    """Read the ports: they are printed once all models are loaded and all ports listen."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(START_SECONDS)
        raise AssertionError(f"the server did not start: {log_file.read_text() if log_file else process.returncode}")
    said = json.loads(line)
    ports = {name: said[name] for name in ("http", "grpc", "metrics")}
    return Server(process=process, host=said["host"], **ports, log_file=log_file)


def request(
    host: str,
    port: int | None,
    verb: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    seconds: float = 30.0,
) -> tuple[int, bytes]:
    """Status and body of one HTTP request on a connection of its own."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request(verb, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """Encrypted clips, and the logits that a session on this machine gives for them."""

    clip: EncryptedClip
    logits: np.ndarray


def make_example(server_folder: Path, clips: int = 1, seed: int = 0, *, key: str = KEY) -> Example:
    """Random ciphertext for a key of an artifact."""
    clip = random_clip(server_folder, clips, seed=seed, name=key)
    return Example(clip=clip, logits=open_session(server_folder, SessionOptions(threads=1)).run(clip))


def http_body(
    clip: EncryptedClip, *, binary_output: bool = True, name: str = "clips", **changes: Any
) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an inference request with binary data; ``changes`` replace parts of its JSON."""
    data = clip.values.tobytes()
    tensor = {"name": name, "datatype": "UINT8", "shape": list(clip.values.shape)}
    fields = {
        "inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}],
        "parameters": {**binding_to_parameters(clip.binding), "binary_data_output": binary_output},
        **changes,
    }
    head = json.dumps(fields).encode()
    return head + data, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def ask_http(server: Server, clip: EncryptedClip, *, seconds: float = 30.0) -> tuple[int, Any]:
    """Status, and logits ``[batch, classes]`` or the text of the error."""
    body, headers = http_body(clip)
    path = f"/v2/models/{NAME}/infer"
    connection = http.client.HTTPConnection(server.host, server.http, timeout=seconds)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        length, answer = int(response.headers.get(LENGTH) or 0), response.read()
    finally:
        connection.close()
    if response.status != 200:
        return response.status, json.loads(answer)["error"]
    shape = json.loads(answer[:length])["outputs"][0]["shape"]
    return 200, np.frombuffer(answer[length:], "<f4").reshape(shape)


def grpc_message(clip: EncryptedClip, *, name: str = "clips", model: str = NAME, request_id: str = "") -> Any:
    """A ``ModelInferRequest``."""
    from lcve_deploy.protocol.stubs import messages

    message = messages().ModelInferRequest(model_name=model, id=request_id)
    message.inputs.add(name=name, datatype="UINT8", shape=clip.values.shape)
    message.raw_input_contents.append(clip.values.tobytes())
    for parameter, value in binding_to_parameters(clip.binding).items():
        message.parameters[parameter].string_param = value
    return message


def grpc_logits(response: Any) -> np.ndarray:
    """Logits ``[batch, classes]`` of a ``ModelInferResponse``."""
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(response.outputs[0].shape)


@contextlib.contextmanager
def grpc_stub(server: Server, **options: Any) -> Iterator[Any]:
    """A stub on a channel of its own."""
    import grpc

    from lcve_deploy.protocol.stubs import services

    settings = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(f"{server.host}:{server.grpc}", settings, **options) as channel:
        yield services().GRPCInferenceServiceStub(channel)


def ask_grpc(server: Server, clip: EncryptedClip, *, seconds: float = 30.0) -> tuple[str, Any]:
    """Name of the status, and logits or the text of the error."""
    import grpc

    with grpc_stub(server) as stub:
        try:
            return "OK", grpc_logits(stub.ModelInfer(grpc_message(clip), timeout=seconds))
        except grpc.RpcError as error:
            return error.code().name, error.details()
