"""A server that lies: honest in all but one answer, which is given as raw bytes or written to the socket at will."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from tests.support.fake_server import Model

__all__ = ["Lie", "LyingGrpc", "LyingHttp", "LyingHttp2", "frame", "http_answer"]

METADATA, CONFIG, INFER = "metadata", "config", "infer"

Lie = Callable[[socket.socket], None] | bytes
"""Bytes of a whole HTTP response, or what writes them."""

_METHODS: Final = {"ModelMetadata": METADATA, "ModelConfig": CONFIG, "ModelInfer": INFER}


def http_answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole response."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class LyingHttp:
    """Answers over HTTP; ``lies`` replaces the response of a route (metadata, config or infer)."""

    scheme = "http"

    def __init__(self, model: Model, lies: Mapping[str, Lie]) -> None:
        self._model, self._lies, self.asked = model, lies, list[str]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/{model.name}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as requests, contextlib.suppress(OSError):
            connection.settimeout(30)
            while line := requests.readline():
                length = 0
                while (header := requests.readline()) not in (b"\r\n", b""):
                    name, _, value = header.decode().partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                requests.read(length)
                self._answer(connection, _route(line.decode().split()[1]))

    def _answer(self, connection: socket.socket, route: str) -> None:
        self.asked.append(route)
        lie = self._lies.get(route)
        if callable(lie):
            lie(connection)
        else:
            connection.sendall(lie or http_answer(self._honest(route)))

    def _honest(self, route: str) -> bytes:
        if route != INFER:
            message = self._model.config() if route == CONFIG else self._model.metadata()
            text: str = json_format.MessageToJson(message, preserving_proto_field_name=True)
            return text.encode()
        logits = {"name": "logits", "datatype": "FP32", "shape": [1, 5], "data": [0.5, 1, 2, 3, 4]}
        return json.dumps({"model_name": self._model.name, "model_version": "1", "outputs": [logits]}).encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _route(path: str) -> str:
    ends = {"config": CONFIG, "infer": INFER}
    return ends.get(path.rsplit("/", 1)[-1], METADATA)


class LyingGrpc:
    """Answers over gRPC; ``lies`` replaces the message of a call by bytes."""

    scheme = "grpc"

    def __init__(
        self, model: Model, lies: Mapping[str, bytes], *, compression: grpc.Compression = grpc.Compression.NoCompression
    ) -> None:
        self._model, self._lies, self.asked = model, lies, list[str]()
        options = [("grpc.max_send_message_length", -1), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(ThreadPoolExecutor(4), options=options, compression=compression)
        handlers = {name: grpc.unary_unary_rpc_method_handler(self._handler(route)) for name, route in _METHODS.items()}
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers)]
        )
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"grpc://127.0.0.1:{port}/{model.name}"
        self._server.start()

    def _handler(self, route: str) -> Callable[[bytes, Any], bytes]:
        def answer(request: bytes, context: Any) -> bytes:
            self.asked.append(route)
            return self._lies[route] if route in self._lies else self._honest(route)

        return answer

    def _honest(self, route: str) -> bytes:
        if route == METADATA:
            message = self._model.metadata()
        elif route == CONFIG:
            message = service_pb2.ModelConfigResponse(config=self._model.config())
        else:
            message = self._model.answer(np.zeros((1, 8), np.uint8), "1")
        return bytes(message.SerializeToString())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(0).wait()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


class LyingHttp2:
    """A listener that answers the first call of every connection with frames of HTTP/2, over and over.

    Args:
        model: its name is part of the address.
        first: frames that are sent once.
        again: frames that are sent until the client closes.
        pause: seconds between them.
    """

    def __init__(self, model: Model, first: bytes, again: bytes, pause: float = 0.0) -> None:
        self._first, self._again, self._pause = first, again, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"grpc://127.0.0.1:{self._listener.getsockname()[1]}/{model.name}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        ended = threading.Event()
        with connection, contextlib.suppress(OSError):
            connection.sendall(frame(4, 0, 0, b"") + frame(4, 1, 0, b""))
            received = b""
            while b"\0\0\0\x01" not in received[24:]:  # until a frame of the first call
                received += connection.recv(65536)
            threading.Thread(target=_drain, args=(connection, ended), daemon=True).start()
            connection.sendall(self._first)
            while not ended.wait(self._pause):
                connection.sendall(self._again)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _drain(connection: socket.socket, ended: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass
    ended.set()
