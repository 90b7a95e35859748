"""A stand-in for a server of the Open Inference Protocol that fails in chosen ways, over gRPC and HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from lcve_deploy import Binding
from lcve_deploy.protocol.binding import binding_to_parameters
from tests.support.tls import Pem

CLASSES = 5
SHARED = Path("/dev/shm")  # noqa: S108


@dataclass(frozen=True)
class Refusal:
    """A status in place of an answer."""

    grpc: str
    http: int
    words: str = "no"
    retry_after: str = ""
    """Seconds that HTTP states, and thousandths of which gRPC does."""


AWAY = Refusal("UNAVAILABLE", 503, "not ready")
BUSY = Refusal("RESOURCE_EXHAUSTED", 429, "the rate limit is reached")
LARGE = Refusal("RESOURCE_EXHAUSTED", 413, "more than 10 bytes")
INVALID = Refusal("INVALID_ARGUMENT", 400, "wrong input")
UNKNOWN = Refusal("NOT_FOUND", 404, "no such model")
DENIED = Refusal("UNAUTHENTICATED", 401, "wrong token")
FAILED = Refusal("INTERNAL", 500, "out of order")
LATE = Refusal("DEADLINE_EXCEEDED", 504, "not answered in time")

Change = Callable[[Any], None]


class Hang:
    """No answer until the server ends."""


class Drop:
    """The connection ends in place of an answer (HTTP alone)."""


def logits_of(values: np.ndarray) -> np.ndarray:
    """What the model answers: anything that depends on the clip."""
    means = values.reshape(len(values), -1).mean(axis=1, dtype=np.float64)
    logits: np.ndarray = (means[:, None] * np.arange(1, CLASSES + 1)).astype(np.float32)
    return logits


@dataclass
class Model:
    """What a server has and does."""

    binding: Binding
    name: str = "digits"
    versions: list[str] = field(default_factory=lambda: ["1"])
    max_batch: int = 8
    token: str = ""
    bound: bool = True
    shares_memory: bool = True
    next: deque[Refusal | Hang | Drop | Change] = field(default_factory=deque)
    describes: deque[Refusal | Hang] = field(default_factory=deque)
    change_metadata: Change = lambda message: None
    change_config: Change = lambda message: None
    infers: list[Any] = field(default_factory=list)
    received: int = 0
    """Bytes of the messages or bodies of these."""
    described: int = 0
    seen_headers: list[dict[str, str]] = field(default_factory=list)
    regions: dict[str, str] = field(default_factory=dict)
    registered: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def shape(self) -> list[int]:
        return list(self.binding.layout.shape(self.binding.geometry))

    def metadata(self) -> Any:
        message = service_pb2.ModelMetadataResponse(name=self.name, versions=self.versions, platform="fake")
        message.inputs.add(name="clips", datatype="UINT8", shape=[-1, *self.shape])
        message.outputs.add(name="logits", datatype="FP32", shape=[-1, CLASSES])
        self.change_metadata(message)
        return message

    def config(self) -> Any:
        message = model_config_pb2.ModelConfig(name=self.name, max_batch_size=self.max_batch)
        batch = [] if self.max_batch else [-1]
        message.input.add(name="clips", data_type="TYPE_UINT8", dims=[*batch, *self.shape])
        message.output.add(name="logits", data_type="TYPE_FP32", dims=[*batch, CLASSES])
        for name, value in binding_to_parameters(self.binding).items() if self.bound else ():
            message.parameters[name].string_value = value
        self.change_config(message)
        return message

    def answer(self, values: np.ndarray, version: str) -> Any:
        response = service_pb2.ModelInferResponse(model_name=self.name, model_version=version or self.versions[-1])
        response.outputs.add(name="logits", datatype="FP32", shape=[len(values), CLASSES])
        response.raw_output_contents.append(logits_of(values).tobytes())
        return response

    def next_description(self) -> Refusal | None:
        step = self.describes.popleft() if self.describes else None
        if isinstance(step, Hang):
            self.ended.wait(60)
            return AWAY
        return step

    def refusal(self, headers: dict[str, str], model: str) -> Refusal | None:
        self.seen_headers.append(headers)
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            given = headers.get("authorization", "nothing")
            return Refusal("UNAUTHENTICATED", 401, f"not a token: {given}")
        return UNKNOWN if model != self.name else None


def chosen(model: Model) -> Any:
    return model.next.popleft() if model.next else None


class _Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]  # generated, not typed
    def __init__(self, model: Model) -> None:
        self.model = model

    def _check(self, context: Any, name: str) -> None:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self._abort(context, self.model.refusal(headers, name))

    def _abort(self, context: Any, refusal: Refusal | None) -> None:
        if refusal is not None:
            if refusal.retry_after:
                context.set_trailing_metadata((("grpc-retry-pushback-ms", refusal.retry_after),))
            context.abort(grpc.StatusCode[refusal.grpc], refusal.words)

    def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.model.described += 1
        self._check(context, request.name)
        self._abort(context, self.model.next_description())
        return self.model.metadata()

    def ModelConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check(context, request.name)
        return service_pb2.ModelConfigResponse(config=self.model.config())

    def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._check(context, request.model_name)
        self.model.infers.append(request)
        self.model.received += request.ByteSize()
        step = chosen(self.model)
        if isinstance(step, Hang):
            self.model.ended.wait(60)
        if isinstance(step, Refusal):
            self._abort(context, step)
        response = self.model.answer(self._values(request, context), request.model_version)
        if callable(step):
            step(response)
        return response

    def _values(self, request: Any, context: Any) -> np.ndarray:
        (tensor,) = request.inputs
        if "shared_memory_region" not in tensor.parameters:
            return np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(list(tensor.shape))
        region = tensor.parameters["shared_memory_region"].string_param
        if region not in self.model.regions:
            self._abort(context, Refusal("INVALID_ARGUMENT", 400, "unable to find shared memory region"))
        data = (SHARED / self.model.regions[region].lstrip("/")).read_bytes()
        size = tensor.parameters["shared_memory_byte_size"].int64_param
        return np.frombuffer(data[:size], np.uint8).reshape(list(tensor.shape))

    def SystemSharedMemoryRegister(self, request: Any, context: Any) -> Any:  # noqa: N802
        if not self.model.shares_memory:
            self._abort(context, Refusal("UNIMPLEMENTED", 501, "no shared memory here"))
        self.model.regions[request.name] = request.key
        self.model.registered += 1
        return service_pb2.SystemSharedMemoryRegisterResponse()

    def SystemSharedMemoryUnregister(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.model.regions.pop(request.name, None)
        return service_pb2.SystemSharedMemoryUnregisterResponse()


class GrpcServer:
    """The model over gRPC; as a context manager it ends."""

    scheme = "grpc"

    def __init__(self, model: Model, *, port: int = 0, pem: Pem | None = None, largest: int = -1) -> None:
        self.model = model
        options = [("grpc.max_receive_message_length", largest), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(8), options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(_Servicer(model), self._server)
        self.port = self._bind(f"127.0.0.1:{port}", pem)
        self._server.start()

    def _bind(self, where: str, pem: Pem | None) -> int:
        if pem is None:
            return int(self._server.add_insecure_port(where))
        ca = pem.ca.read_bytes() if pem.ca else None
        pair = [(pem.key.read_bytes(), pem.cert.read_bytes())]
        return int(self._server.add_secure_port(where, grpc.ssl_server_credentials(pair, ca, ca is not None)))

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.endpoint}/{self.model.name}"

    def stop(self) -> None:
        self.model.ended.set()
        self._server.stop(0).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any

    def log_message(self, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        model: Model = self.server.model
        config = self.path.endswith("/config")
        model.described += not config
        refusal = self._refusal() or (None if config else model.next_description())
        if refusal is not None:
            self._refuse(refusal)
            return
        message = model.config() if config else model.metadata()
        self._send(200, json_format.MessageToJson(message, preserving_proto_field_name=True).encode())

    def do_POST(self) -> None:
        model: Model = self.server.model
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers["Inference-Header-Content-Length"])
        request = json.loads(body[:length])
        refusal = self._refusal()
        if refusal is not None:
            self._refuse(refusal)
            return
        model.infers.append(request)
        model.received += len(body)
        step = chosen(model)
        if isinstance(step, Hang):
            model.ended.wait(60)
        if isinstance(step, Hang | Drop):
            self.close_connection = True
        elif isinstance(step, Refusal):
            self._refuse(step)
        else:
            self._answer(request, body[length:], step)

    def _answer(self, request: dict[str, Any], data: bytes, step: Change | None) -> None:
        values = np.frombuffer(data, np.uint8).reshape(request["inputs"][0]["shape"])
        version = self.path.split("/")[5] if "/versions/" in self.path else ""
        response = self.server.model.answer(values, version)
        if step is not None:
            step(response)
        raw = b"".join(response.raw_output_contents)
        described: list[Any] = list(response.outputs)
        contents = [*response.raw_output_contents, *([b""] * len(described))]
        outputs = [
            {
                "name": output.name,
                "datatype": output.datatype,
                "shape": list(output.shape),
                "parameters": {"binary_data_size": len(content)},
            }
            for output, content in zip(described, contents, strict=False)
        ]
        stated = {name: value.int64_param for name, value in response.parameters.items()}
        names = {"model_name": response.model_name, "model_version": response.model_version}
        head = json.dumps({**names, **({"parameters": stated} if stated else {}), "outputs": outputs}).encode()
        self._send(200, head + raw, {"Inference-Header-Content-Length": str(len(head))})

    def _refusal(self) -> Refusal | None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        refusal: Refusal | None = self.server.model.refusal(headers, self.path.split("/")[3])
        return refusal

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"Retry-After": refusal.retry_after} if refusal.retry_after else {}
        self._send(refusal.http, json.dumps({"error": refusal.words}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    model: Model

    def __init__(self, *given: Any) -> None:
        self.connections: list[socket.socket] = []
        super().__init__(*given)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class HttpServer:
    """The model over HTTP; as a context manager it ends."""

    scheme = "http"

    def __init__(self, model: Model, *, port: int = 0, pem: Pem | None = None) -> None:
        self.model = model
        self._server = _Listener(("127.0.0.1", port), _Handler)
        self._server.model = model
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem.cert, pem.key)
            if pem.ca is not None:
                context.load_verify_locations(pem.ca)
                context.verify_mode = ssl.CERT_REQUIRED
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.endpoint}/{self.model.name}"

    def stop(self) -> None:
        self.model.ended.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._server.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
