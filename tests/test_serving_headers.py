"""Headers of all answers of ``lcve serve``: none names a library or a version."""

from __future__ import annotations

import contextlib
import itertools
import platform
import re
import socket
import threading
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import grpc
import pytest

from tests.support.servers import NAME, Server, grpc_message, make_example, serving

LIBRARIES = ("aiohttp", "grpcio", "protobuf", "tritonclient", "onnxruntime", "lcve-deploy")
REVEALING = re.compile(
    "|".join(
        [
            *(re.escape(version(name)) for name in LIBRARIES),
            re.escape(platform.python_version()[:4]),
            *("python", "aiohttp", "grpc-c", "grpcio", "onnxruntime", "tritonclient"),
        ]
    ),
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    with serving(exported / "server", "--max-request-mib", 1) as server:
        yield server


def head(line: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join((f"{line} HTTP/1.1", "Host: 127.0.0.1", *headers, "Connection: close", "", body)).encode()


REQUESTS = {
    "answer": (200, head("GET /v2")),
    "health": (200, head("GET /v2/health/ready")),
    "not ready": (400, head("GET /v2/models/none/ready")),
    "unknown model": (404, head("GET /v2/models/none")),
    "unknown path": (404, head("GET /none")),
    "other method": (405, head("DELETE /v2")),
    "other host": (403, head("GET /v2", "Host: evil.test").replace(b"Host: 127.0.0.1\r\n", b"", 1)),
    "other origin": (403, head("GET /v2", "Origin: https://evil.test")),
    "no JSON": (400, head(f"POST /v2/models/{NAME}/infer", "Content-Length: 3", body="zzz")),
    "too large": (413, head(f"POST /v2/models/{NAME}/infer", "Content-Length: 99999999")),
    "unknown expectation": (417, head("GET /v2", "Expect: nonsense")),
    "no request": (400, b"GARBAGE\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    "large header": (400, head("GET /v2", f"X: {'a' * 20_000}")),
    "bad chunk": (400, head("POST /v2/repository/index", "Transfer-Encoding: chunked", body="zz\r\n")),
    "bad length": (400, head("POST /v2/repository/index", "Content-Length: -1")),
}


def ask(host: str, port: int | None, data: bytes) -> tuple[int, str]:
    """Status and headers of the answer to these bytes."""
    with socket.create_connection((host, port or 0), timeout=20) as connection:
        connection.sendall(data)
        lines = iter(connection.makefile("rb").readline, b"")  # not to the end: for seconds a server waits for the rest
        headers = b"".join(itertools.takewhile(lambda line: line != b"\r\n", lines)).decode("latin-1").rstrip()
    return int(headers.split()[1]), headers.partition("\r\n")[2]


@pytest.mark.parametrize("what", REQUESTS)
def test_headers_over_http_reveal_no_version(server: Server, what: str) -> None:
    status, data = REQUESTS[what]
    answered, headers = ask(server.host, server.http, data)
    assert answered == status
    assert "Server: lcve-deploy" in headers
    assert not REVEALING.search(headers)


@pytest.mark.parametrize("what", ["health", "unknown path", "other method", "unknown expectation", "no request"])
def test_headers_of_the_metrics_port_reveal_no_version(server: Server, what: str) -> None:
    headers = ask(server.host, server.metrics, REQUESTS[what][1])[1]
    assert "Server: lcve-deploy" in headers
    assert not REVEALING.search(headers)


@contextlib.contextmanager
def recorded(server: Server) -> Iterator[tuple[str, bytearray]]:
    """An address that passes one connection on to the gRPC port, and all bytes that the server sends on it."""
    sent = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward(source: socket.socket, target: socket.socket, record: bytearray | None) -> None:
            with contextlib.suppress(OSError):
                while data := source.recv(65536):
                    if record is not None:
                        record += data
                    target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        def accept() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection((server.host, server.grpc or 0)) as upstream:
                back = threading.Thread(target=forward, args=(upstream, client, sent))
                back.start()
                forward(client, upstream, None)
                back.join()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", sent
        thread.join()


def test_what_the_server_sends_over_grpc_reveals_no_version(server: Server, exported: Path) -> None:
    """In plain bytes: gRPC does not compress the texts of its headers."""
    from lcve_deploy.protocol.stubs import services

    clip = make_example(exported / "server").clip
    with recorded(server) as (address, sent):
        with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = services().GRPCInferenceServiceStub(channel)
            stub.ModelInfer(grpc_message(clip), timeout=20)
            calls: tuple[Callable[[], object], ...] = (
                lambda: stub.ModelInfer(grpc_message(clip, model="none"), timeout=20),
                lambda: channel.unary_unary("/inference.GRPCInferenceService/None")(b"", timeout=20),
                lambda: channel.unary_unary("/none.None/None")(b"", timeout=20),
            )
            for call in calls:
                with pytest.raises(grpc.RpcError):
                    call()
        channel.close()
    assert b"grpc-status" in sent
    assert not REVEALING.search(sent.decode("latin-1"))
