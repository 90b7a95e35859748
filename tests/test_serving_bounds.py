"""Attacks on the limits of ``lcve serve``, each with real sockets: memory, connections, time, and the log."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.http2 import HalfMessage
from tests.support.servers import (
    NAME,
    Example,
    Server,
    ask_grpc,
    ask_http,
    grpc_message,
    grpc_stub,
    held,
    make_example,
    refused,
    request,
    serving,
    slow,
)
from tests.support.tls import Authority

MEBIBYTE = 2**20
INFER = f"/v2/models/{NAME}/infer"
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


def require_well(server: Server, example: Example) -> None:
    for ask, well in ((ask_http, 200), (ask_grpc, "OK")):
        status, logits = ask(server, example.clip)
        assert status == well, logits
        np.testing.assert_allclose(logits, example.logits, atol=1e-5)


def closed(server: Server, reason: str) -> float:
    return server.value("lcve_closed_connections_total", reason=reason)


def test_messages_larger_than_a_valid_request_are_not_received(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        before = server.rss
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=60 * MEBIBYTE)) for _ in range(20)]
        with ThreadPoolExecutor(20) as threads:
            sent = sum(threads.map(lambda half: half.send(40 * MEBIBYTE, seconds=2), halves))
        assert sent < 20 * MEBIBYTE
        assert server.rss - before < 40 * MEBIBYTE
        require_well(server, example)


def test_half_messages_are_held_for_as_many_streams_as_places(exported: Path, example: Example) -> None:
    size = MEBIBYTE
    with serving(exported / "server", "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=size)) for _ in range(20)]
        with ThreadPoolExecutor(20) as threads:
            sent = [*threads.map(lambda half: half.send(size - 1, seconds=2), halves)]
        assert sorted(sent)[-3] < size // 2  # only two streams are read
        require_well(server, example)  # unary calls have places of their own


def test_half_messages_of_calls_without_tensors_are_bounded_too(exported: Path) -> None:
    size, path = MEBIBYTE, "/inference.GRPCInferenceService/ServerLive"
    with serving(exported / "server", "--max-requests", 2) as server, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=size, path=path)) for _ in range(10)]
        with ThreadPoolExecutor(10) as threads:
            sent = [*threads.map(lambda half: half.send(size - 1, seconds=2), halves)]
        assert sorted(sent)[-3] < size // 2
        assert server.get("/v2/health/live")[0] == 200


def test_a_stream_that_stops_in_a_message_is_ended(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--max-requests", 1, "--read-timeout", 1) as server:
        with HalfMessage(server.host, server.grpc, size=1000) as half:
            half.send(500, seconds=1)
            server.wait_for("request refused", call="ModelStreamInfer", code="DEADLINE_EXCEEDED")
        with grpc_stub(server) as stub:
            (answer,) = stub.ModelStreamInfer(iter([grpc_message(example.clip)]))
            assert not answer.error_message


def test_json_is_released_while_its_request_waits(exported: Path, example: Example) -> None:
    shape = list(example.clip.values.shape)
    values = example.clip.values.size
    data = "[" + ",".join(f"[[{value}]]" for value in example.clip.values.reshape(-1)) + "]"
    body = f'{{"inputs": [{{"name": "clips", "datatype": "UINT8", "shape": {shape}, "data": {data}}}]}}'.encode()
    assert len(body) > 3 * values
    with serving(exported / "server") as server:
        status, answer = request(server.host, server.http, "POST", INFER, body)
        assert status == 200, answer
        logits = np.array(json.loads(answer)["outputs"][0]["data"], np.float32)
        np.testing.assert_allclose(logits, example.logits.reshape(-1), atol=1e-5)


def test_silent_connections_keep_nobody_out(exported: Path, authority: Authority, example: Example) -> None:
    """With a hard limit on file descriptors that all of them would use up."""
    tls = ("--tls-cert", authority.server.cert, "--tls-key", authority.server.key)
    limits = ("--max-connections", 64, "--read-timeout", 60)
    with (
        serving(exported / "server", *tls, *limits, prefix=("prlimit", "--nofile=288:288")) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(300):
            stack.enter_context(socket.create_connection((server.host, server.http), 30))
        assert server.get("/v2/health/live", port=server.metrics)[0] == 200
        assert https_live(server, authority)
        while closed(server, "evicted") < 236:
            pass
        assert server.log_file is not None
        assert server.log_file.stat().st_size < 10_000
        assert server.wait_for("connections closed", reason="evicted")["count"] >= 1


def https_live(server: Server, authority: Authority) -> bool:
    import ssl

    context = ssl.create_default_context(cafile=str(authority.ca))
    with (
        socket.create_connection((server.host, server.http), 30) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1 200")


def test_a_tls_handshake_has_a_time_limit(exported: Path, authority: Authority) -> None:
    tls = ("--tls-cert", authority.server.cert, "--tls-key", authority.server.key)
    with serving(exported / "server", *tls, "--read-timeout", 1) as server:
        for port in (server.http, server.grpc):
            with socket.create_connection((server.host, port), 60) as connection:
                assert connection.recv(100) == b""
        assert closed(server, "handshake") == 1


def test_grpc_connections_have_a_maximum(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--max-connections", 4) as server, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(HalfMessage(server.host, server.grpc, size=1000)) for _ in range(8)]
        for half in halves:
            half.send(1, seconds=0.2)
        assert sum(half.wait_for_end(0.5) for half in halves) == 4
        assert ask_http(server, example.clip)[0] == 200


def test_every_head_of_a_connection_has_a_time_limit(exported: Path) -> None:
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
    with serving(exported / "server", "--read-timeout", 1) as server:
        with socket.create_connection((server.host, server.http), 60) as connection:
            connection.sendall(head + b"\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            connection.settimeout(0.1)
            sent, ended = 0, False
            while not ended:
                with contextlib.suppress(TimeoutError):
                    try:
                        connection.sendall(head[sent % len(head) :][:1])
                        ended = connection.recv(4096) == b""
                    except ConnectionError:
                        ended = True
                sent += 1
                assert sent < 300
        assert closed(server, "timeout") == 1


def test_a_full_server_closes_the_oldest_connection_without_a_request(
    exported: Path, example: Example, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with serving(exported / "server", "--max-connections", 2, before=held(gate)) as server:
        gate.touch()
        with (
            ThreadPoolExecutor(1) as threads,
            socket.create_connection((server.host, server.http), 30) as idle,
        ):
            asking = threads.submit(ask_http, server, example.clip)
            while not server.value("lcve_pending_requests"):
                pass
            with socket.create_connection((server.host, server.http), 30) as other:
                assert idle.recv(100) == b""  # rather than the one with a request
                other.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert other.recv(4096).startswith(b"HTTP/1.1 200")
                gate.unlink()
                assert asking.result()[0] == 200
        assert closed(server, "evicted") == 1


def test_too_few_file_descriptors_are_an_error_at_the_start(exported: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = hard // 2 + 1
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    status, _, errors = refused(str(exported / "server"), *ports, "--max-connections", str(needed))
    assert status == 1
    assert "file descriptors" in errors
    assert "--max-connections" in errors
    assert soft <= hard


HANGING = """
import time
from lcve_deploy.serving.models.served import ServedModel
ServedModel._run = lambda self, values: time.sleep(600)
"""


def test_the_end_takes_one_grace_whatever_is_in_progress(exported: Path, example: Example) -> None:
    """A run that does not end, a body and a message that stop, and an idle stream. Each alone would take minutes."""
    with (
        serving(exported / "server", "--grace", 1, "--read-timeout", 600, before=HANGING) as server,
        HalfMessage(server.host, server.grpc, size=1000) as half,
        socket.create_connection((server.host, server.http), 60) as connection,
        ThreadPoolExecutor(1) as threads,
    ):
        half.send(10, seconds=1)
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode())
        threads.submit(ask_grpc, server, example.clip)
        while server.value("lcve_pending_requests") < 2:
            pass
        assert server.end() == 0
        assert server.wait_for("stopped")["unanswered"] >= 1
        assert server.wait_for("ended during a run")["grace_seconds"] == 1


def test_malformed_heads_leave_no_token_and_no_traceback_in_the_log(exported: Path) -> None:
    heads = (
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\x01\r\n\r\n",
        f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization Bearer {TOKEN}\r\n\r\n",
        f"GET /{TOKEN} HTTP/9\r\nAuthorization: Bearer {TOKEN}\r\n\r\n",
        f"{TOKEN} \x1b[31m\r\n\r\n",
    )
    with serving(exported / "server") as server:
        for port in (server.http, server.metrics):
            for head in heads:
                with socket.create_connection((server.host, port), 30) as connection:
                    connection.sendall(head.encode())
                    while connection.recv(4096):
                        pass
        assert closed(server, "malformed") == 2 * len(heads)
        assert server.wait_for("connections closed", reason="malformed")
        require_json_log(server)
        assert server.log_file is not None
        text = server.log_file.read_text()
        assert TOKEN not in text
        assert "Traceback" not in text


def test_handshakes_that_fail_leave_only_json_in_the_log(exported: Path, authority: Authority) -> None:
    tls = ("--tls-cert", authority.server.cert, "--tls-key", authority.server.key)
    with serving(exported / "server", *tls, fresh=True) as server:
        for port in (server.http, server.grpc):
            with socket.create_connection((server.host, port), 30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
                with contextlib.suppress(ConnectionError):
                    while connection.recv(4096):
                        pass
        assert closed(server, "handshake") == 1
        require_json_log(server)


def require_json_log(server: Server) -> None:
    assert not [line for line in server.log() if line["event"] == "raw"]


LIBRARIES = """
import logging, warnings
def speak():
    logging.getLogger("some.library").error("refused Authorization: Bearer %s\\nsecond line", "0123456789abcdef")
    try:
        raise ValueError("0123456789abcdef")
    except ValueError:
        logging.getLogger("some.library").exception("failed")
    warnings.warn("a name with \\x1b[31m\\nand a second line")
from lcve_deploy.serving import server
listening = server._listening
server._listening = lambda *arguments: speak() or listening(*arguments)
"""


def test_what_libraries_log_is_one_line_of_json_without_tokens(exported: Path) -> None:
    with serving(exported / "server", before=LIBRARIES, fresh=True) as server:
        first = server.wait_for("library message", library="some.library")
        second = server.wait_for("library message", error="ValueError")
        warned = server.wait_for("warning")
        require_json_log(server)
        assert server.log_file is not None
        text = server.log_file.read_text()
    assert first["text"] == "refused Authorization [removed]\nsecond line"
    assert second["text"] == "failed"
    assert warned["text"] == "a name with \x1b[31m\nand a second line"
    assert TOKEN not in text
    assert "\x1b" not in text


def test_a_file_name_in_a_warning_adds_no_line_to_the_log(exported: Path, tmp_path: Path) -> None:
    tokens = tmp_path / 'tokens\n{"event": "forged"}\x1b[31m'
    tokens.write_text(f"camera-7 {TOKEN}\n")
    tokens.chmod(0o644)
    with serving(exported / "server", "--tokens", tokens) as server:
        warned = server.wait_for("warning", category="TokenFileWarning")
        assert str(tokens) in warned["text"]
        assert not [line for line in server.log() if line["event"] == "forged"]
        require_json_log(server)


@pytest.fixture
def full_log(tmp_path: Path) -> Iterator[Path]:
    """A file for a log on a file system of 64 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield place / "log"
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_glues_no_lines_together(exported: Path, full_log: Path) -> None:
    ballast = full_log.with_name("ballast")
    ballast.write_bytes(bytes(48 * 1024))
    with full_log.open("a") as log, serving(exported / "server", stderr=log) as server:
        for _ in range(200):
            assert server.get("/v2/health/live")[0] == 200
        while full_log.stat().st_size < 16 * 1024:
            pass
        ballast.unlink()
        for _ in range(20):
            assert server.get("/v2/health/live")[0] == 200
        assert server.end() == 0
    lines = [json.loads(line) for line in full_log.read_text().splitlines()]
    (dropped,) = [line["lines"] for line in lines if line["event"] == "log lines dropped"]
    assert dropped > 10
    assert len([line for line in lines if line["event"] == "request answered"]) + dropped == 220


@pytest.mark.parametrize("together", [1, 2, 3, 5])
def test_a_log_line_is_whole_or_absent(monkeypatch: pytest.MonkeyPatch, together: int) -> None:
    from lcve_deploy.serving.telemetry import logs

    reading, writing = os.pipe()
    space = 0
    write = os.write

    def limited(descriptor: int, data: bytes) -> int:
        """A disk that takes some bytes and is then full."""
        nonlocal space
        if descriptor != writing:
            return write(descriptor, data)
        if not space:
            raise OSError(28, "No space left on device")
        taken = write(descriptor, data[:space])
        space -= taken
        return taken

    monkeypatch.setattr(os, "write", limited)
    handler = logs._DescriptorHandler(writing)
    handler.setFormatter(logs._JsonFormatter())
    record = {"name": "lcve_deploy.serving", "levelname": "INFO"}
    import logging

    number = 0
    for space in (0, 50, 0, 150, 0, 230, 30, 2000, 2000):  # noqa: B007 (the loop sets the space of ``limited``)
        for _ in range(together):
            handler.emit(logging.makeLogRecord({**record, "msg": f"line {number}"}))
            number += 1
        handler.write_kept()
    os.close(writing)
    lines = [json.loads(line) for line in os.read(reading, 1 << 16).decode().splitlines()]
    os.close(reading)
    events = [line["event"] for line in lines]
    assert "line 0" not in events
    assert events[-1] == f"line {number - 1}"
    assert sum(line.get("lines", 0) for line in lines) + sum(event.startswith("line") for event in events) == number


def test_a_cancelled_request_is_not_called_answered(exported: Path, example: Example) -> None:
    with serving(exported / "server", before=slow(0.5)) as server:
        with grpc_stub(server) as stub:
            response = stub.ModelInfer.future(grpc_message(example.clip))
            while not server.value("lcve_pending_requests"):
                pass
            response.cancel()
        server.wait_for("request cancelled", call="ModelInfer", protocol="grpc")
        with socket.create_connection((server.host, server.http), 30) as connection:
            connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n".encode())
            while not server.value("lcve_pending_requests"):
                pass
        server.wait_for("request cancelled", call="ModelInfer", protocol="http")
        with grpc_stub(server) as stub:
            responses = stub.ModelStreamInfer(iter([grpc_message(example.clip)]))
            while not server.value("lcve_queue_clips") and not server.value("lcve_pending_requests"):
                pass
            responses.cancel()
            server.wait_for("request cancelled", call="ModelStreamInfer")
        assert server.value("lcve_requests_total", code="CANCELLED") == 3
        assert server.value("lcve_request_seconds_count", model=NAME) == 0
        assert not [
            line for line in server.log() if line["event"] == "request answered" and line["call"] == "ModelInfer"
        ]


def test_a_second_signal_ends_a_server_at_once(exported: Path, example: Example) -> None:
    with serving(exported / "server", before=HANGING) as server, ThreadPoolExecutor(1) as threads:
        threads.submit(ask_grpc, server, example.clip)
        while not server.value("lcve_pending_requests"):
            pass
        server.signal(signal.SIGTERM)
        server.wait_for("stopping")
        server.signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGKILL
