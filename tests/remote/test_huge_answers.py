"""A server that lies: what is too large is refused before it is parsed, and nothing outlasts the deadline."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lcve_deploy import RemoteSession
from lcve_deploy.errors import DeadlineError, LcveError
from lcve_deploy.remote.connection import Connection
from lcve_deploy.remote.limits import MAX_HEAD_BYTES, MAX_LOGITS, BodyLimits
from tests.remote.helpers import BINDING, QUICK, Server, clips
from tests.support import fake_server as fake
from tests.support.fake_server import Model
from tests.support.lying_server import LyingGrpc, LyingHttp, LyingHttp2, frame, http_answer
from tests.support.tls import make_authority

ROOT = Path(__file__).parents[2]
_NAMED = b'{"model_name":"digits","outputs":[{"name":"logits","datatype":"FP32","shape":[1,5]'
_SIZE = 64 * 2**20


def _filled(start: bytes, unit: bytes, end: bytes = b"", size: int = _SIZE) -> bytes:
    return start + unit * ((size - len(start) - len(end)) // len(unit)) + end


def _field(number: int, data: bytes) -> bytes:
    """A field of protobuf."""
    size, length = bytearray(), len(data)
    while length > 127:
        size.append(length & 127 | 128)
        length >>= 7
    return bytes([number << 3 | 2, *size, length]) + data


def _drip(start: bytes, unit: bytes, pause: float = 0.0) -> Callable[[socket.socket], None]:
    ended = threading.Event()

    def write(connection: socket.socket) -> None:
        connection.sendall(start)
        while not ended.wait(pause):
            connection.sendall(unit)

    return write


HUGE_HTTP: dict[str, tuple[str, Any]] = {
    "numbers": ("infer", http_answer(_filled(_NAMED + b',"data":[', b"0,", b"0]}]}"))),
    "objects": ("infer", http_answer(_filled(b'{"outputs":[', b"{},", b"{}]}"))),
    "binary": ("infer", http_answer(_filled(b"{}", b"\0"), "Inference-Header-Content-Length: 2")),
    "long header": ("infer", http_answer(_filled(b"{}", b" "), f"Inference-Header-Content-Length: {_SIZE}")),
    "error": ("infer", http_answer(_filled(b'{"error":[', b"{},", b"{}]}"), status="503 No")),
    "metadata": ("metadata", http_answer(_filled(b'{"inputs":[', b"{},", b"{}]}", 2**23))),
    "configuration": ("config", http_answer(_filled(b'{"input":[', b"{},", b"{}]}", 2**23))),
    "chunks": ("infer", _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 10_000)),
    "trailers": (
        "infer",
        _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"A: b\r\n" * 10_000),
    ),
    "provisional": ("infer", _drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)),
}
HUGE_GRPC = {
    "raw": ("infer", _field(6, bytes(_SIZE))),
    "outputs": ("infer", _field(5, b"") * (_SIZE // 2)),
    "versions": ("metadata", _field(2, b"") * (_SIZE // 2)),
    "inputs": ("metadata", _field(4, b"") * (_SIZE // 2)),
    "configuration": ("config", _field(1, _field(5, b"") * (_SIZE // 2))),
    "within the limit": ("metadata", _field(4, b"") * (2**16 - 1)),
}

MEASURE = """
import dataclasses, json, sys
import tritonclient.grpc, tritonclient.http
from lcve_deploy import RemoteSession
from lcve_deploy.errors import LcveError
from lcve_deploy.model.output import ModelOutput
from tests.remote.helpers import BINDING, QUICK, clips

def memory(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(name))

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before, clip = memory("VmRSS"), clips()
try:
    options, output = dataclasses.replace(QUICK, retries=0), ModelOutput.logits(5)
    with RemoteSession(sys.argv[1], BINDING, options, output=output) as session:
        session.run(clip)
except LcveError as error:
    print(json.dumps([memory("VmHWM") - before, type(error).__name__]))
"""


def _measured(address: str) -> tuple[float, str]:
    """Peak of memory that a client needs for one request, MiB, and its error; in a process of its own."""
    command = [sys.executable, "-c", MEASURE, address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    assert "Traceback" not in result.stderr
    mebibytes, error = json.loads(result.stdout)
    return mebibytes, error


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("route", "lie"), HUGE_HTTP.values(), ids=HUGE_HTTP)
def test_a_huge_answer_over_http_takes_little_memory(route: str, lie: Any) -> None:
    with LyingHttp(Model(BINDING), {route: lie}) as server:
        mebibytes, error = _measured(server.address)
    assert error == ("UnavailableError" if isinstance(lie, bytes) and b" 503 " in lie[:20] else "SessionError")
    assert mebibytes < 32


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("route", "lie"), HUGE_GRPC.values(), ids=HUGE_GRPC)
def test_a_huge_answer_over_grpc_takes_little_memory(route: str, lie: bytes) -> None:
    with LyingGrpc(Model(BINDING), {route: lie}) as server:
        mebibytes, error = _measured(server.address)
    assert error == ("SessionError" if len(lie) > 2**17 else "MismatchError")
    assert mebibytes < 64


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_compressed_answer_is_refused_before_it_is_large() -> None:
    with LyingGrpc(Model(BINDING), {"infer": _field(6, bytes(_SIZE))}, compression=grpc.Compression.Gzip) as server:
        mebibytes, error = _measured(server.address)
    assert error == "SessionError"
    assert mebibytes < 32


def _header(name: bytes, value: bytes) -> bytes:
    """A header of HTTP/2 without compression."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


_HEAD = _header(b":status", b"200") + _header(b"content-type", b"application/grpc")
_OPENED = frame(1, 4, 1, _HEAD)
FRAMES: dict[str, tuple[bytes, bytes]] = {
    "headers without end": (
        frame(1, 0, 1, _HEAD),
        frame(9, 0, 1, b"".join(_header(b"x", b"a" * 100) for _ in range(99))),
    ),
    "a message of 4 GiB": (_OPENED + frame(0, 0, 1, b"\0\xff\xff\xff\xff"), frame(0, 0, 1, bytes(16384))),
    "empty data without end": (_OPENED, frame(0, 0, 1, b"") * 1000),
    "heads without end": (_OPENED, _OPENED * 100),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("first", "again"), FRAMES.values(), ids=FRAMES)
def test_frames_without_end_take_little_memory(first: bytes, again: bytes) -> None:
    with LyingHttp2(Model(BINDING), first, again) as server:
        mebibytes, error = _measured(server.address)
    assert error == "SessionError"
    assert mebibytes < 32


def test_a_message_that_drips_ends_at_the_deadline() -> None:
    options = dataclasses.replace(QUICK, deadline=0.5)
    with (
        LyingHttp2(
            Model(BINDING), _OPENED + frame(0, 0, 1, b"\0\0\0\x40\0"), frame(0, 0, 1, b"\0"), pause=0.05
        ) as server,
        RemoteSession(server.address, BINDING, options) as session,
        pytest.raises(DeadlineError),
    ):
        session.run(clips())


def test_a_handshake_that_drips_ends_at_the_deadline() -> None:
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"\x16\x03\x03\x40\0\x02\0\x3f\xfc")
            while not ended.wait(0.05):
                connection.sendall(b"\x03")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip)
        thread.start()
        address = f"https://127.0.0.1:{listener.getsockname()[1]}/digits"
        options = dataclasses.replace(QUICK, deadline=0.5)
        try:
            with RemoteSession(address, BINDING, options) as session, pytest.raises(LcveError) as caught:
                session.run(clips())
        finally:
            ended.set()
            thread.join()
    assert type(caught.value) is DeadlineError


DRIPPING = {
    "status": _drip(b"HTTP/1.1 2", b"0", 0.05),
    "head": _drip(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.05),
    "body": _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n", b" ", 0.05),
    "chunks": _drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "error": _drip(b"HTTP/1.1 500 No\r\nContent-Length: 10000\r\n\r\n", b" ", 0.05),
}


@pytest.mark.parametrize("route", ["metadata", "infer"])
@pytest.mark.parametrize("lie", DRIPPING.values(), ids=DRIPPING)
def test_a_dripping_answer_ends_at_the_deadline(lie: Callable[[socket.socket], None], route: str) -> None:
    options = dataclasses.replace(QUICK, deadline=0.5)
    with LyingHttp(Model(BINDING), {route: lie}) as server:
        with RemoteSession(server.address, BINDING, options) as session, pytest.raises(DeadlineError):
            session.run(clips())
        assert server.asked.count(route) == 1


def test_a_server_that_reads_slowly_cannot_hold_a_request_beyond_the_deadline(tmp_path: Path) -> None:
    """The deadline covers sending, too."""
    size = 60_000_000
    authority = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.server.cert, authority.server.key)
    ended, received = threading.Event(), [0]

    def read_slowly() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secure:
            while not ended.wait(0.02):
                received[0] += sum(len(secure.recv(16384)) for _ in range(16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=read_slowly)
        thread.start()
        client = ssl.create_default_context(cafile=authority.ca)
        connection = Connection(f"127.0.0.1:{listener.getsockname()[1]}", client)
        try:
            with pytest.raises(TimeoutError):
                connection.ask("POST", "/", bytes(size), {}, seconds=1.0, limits=BodyLimits.of_description())
            assert received[0] < size // 2
        finally:
            ended.set()
            connection.close()
            thread.join()


def test_large_answers_that_were_asked_for_are_read(start: Callable[..., Server]) -> None:
    """Binary logits of a batch that are longer than any description, through the same session as small ones."""
    count = 4 * MAX_HEAD_BYTES // (4 * fake.CLASSES)
    server = start(Model(BINDING, max_batch=count))
    tiny = clips(1)
    many = dataclasses.replace(tiny, values=np.broadcast_to(tiny.values, (count, *tiny.values.shape[1:])))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for clip in (tiny, many, tiny):
            np.testing.assert_array_equal(session.run(clip), fake.logits_of(clip.values))
    assert len(server.model.infers) == 3


def test_a_request_asks_for_no_more_logits_than_can_be_read(
    start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_LOGITS > 2**20
    monkeypatch.setattr("lcve_deploy.remote.endpoints.MAX_LOGITS", 2 * fake.CLASSES)
    server = start(Model(BINDING))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert len(session.run(clips(5))) == 5
    assert len(server.model.infers) == 3
