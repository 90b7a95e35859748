"""What ``lcve serve`` survives: files that change under it, requests that are bombs, overload, logs nobody reads."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.artifacts import KEY
from tests.support.servers import (
    NAME,
    Example,
    Server,
    ask_grpc,
    ask_http,
    held,
    http_body,
    make_example,
    request,
    serving,
    slow,
)

MEBIBYTE = 2**20
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def shared(exported: Path) -> Iterator[Server]:
    with serving(exported / "server") as server:
        yield server


def require_well(server: Server, example: Example) -> None:
    """The server is there, and answers rightly over both protocols."""
    assert server.process.poll() is None
    for ask, well in ((ask_http, 200), (ask_grpc, "OK")):
        status, logits = ask(server, example.clip)
        assert status == well, logits
        np.testing.assert_allclose(logits, example.logits, atol=1e-5)


@pytest.mark.parametrize("name", [f"keys/{KEY}/keyed.safetensors", "model.onnx"])
@pytest.mark.parametrize("how", ["cut", "overwritten", "removed"])
def test_files_that_change_in_place_change_no_answer(artifact: Path, example: Example, name: str, how: str) -> None:
    file = artifact / "server" / name
    with serving(artifact / "server") as server:
        match how:
            case "cut":
                os.truncate(file, 0)
            case "overwritten":
                with file.open("r+b") as opened:
                    opened.write(b"A" * file.stat().st_size)
            case "removed":
                file.unlink()
        require_well(server, example)


def test_texts_in_place_of_numbers_take_no_memory(shared: Server, example: Example) -> None:
    before = shared.peak
    data = ["a" * 30_000, *[""] * 10_000]  # as an array of NumPy: 1.2 GB
    body, _ = http_body(example.clip)
    tensor = {"name": "clips", "datatype": "UINT8", "shape": list(example.clip.values.shape), "data": data}
    body = json.dumps({"inputs": [tensor]}).encode()
    status, answer = request(shared.host, shared.http, "POST", INFER, body)
    assert status == 400, answer
    assert shared.peak - before < 200 * MEBIBYTE
    require_well(shared, example)


def raw_call(server: Server, name: str, *messages: bytes) -> tuple[str, list[bytes]]:
    """Status of a call with bytes as they are, and the answers."""
    import grpc

    path = f"/inference.GRPCInferenceService/{name}"
    with grpc.insecure_channel(f"{server.host}:{server.grpc}", [("grpc.max_send_message_length", -1)]) as channel:
        try:
            if name == "ModelStreamInfer":
                return "OK", list(channel.stream_stream(path)(iter(messages), timeout=60))
            return "OK", [channel.unary_unary(path)(messages[0], timeout=60)]
        except grpc.RpcError as error:
            return error.code().name, []


@pytest.mark.parametrize("part", [b"\x2a\x00", b"\x22\x00"], ids=["inputs", "parameters of an input"])
def test_a_message_of_many_empty_parts_takes_no_memory(shared: Server, example: Example, part: bytes) -> None:
    before, data = shared.peak, part * (MEBIBYTE // 2)
    if part[0] == 0x22:  # within one input, of 1 MiB
        data = b"\x2a\x80\x80\x40" + data
    assert raw_call(shared, "ModelInfer", data)[0] in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert shared.peak - before < 200 * MEBIBYTE
    assert raw_call(shared, "ModelInfer", part * (7 * MEBIBYTE // 2))[0] == "RESOURCE_EXHAUSTED"
    require_well(shared, example)


@pytest.mark.parametrize(
    "data", [b"\xff" * 100, b"\xff" * 50_000, b"\x0a\xff\xff\x03cut"], ids=["short", "long", "cut"]
)
def test_bytes_that_are_no_message_are_the_clients_fault(shared: Server, example: Example, data: bytes) -> None:
    from lcve_deploy.protocol.stubs import messages

    for name in ("ModelInfer", "ModelMetadata"):
        assert raw_call(shared, name, data)[0] == "INVALID_ARGUMENT"
    status, answers = raw_call(shared, "ModelStreamInfer", data)
    assert status == "OK"
    assert "not a valid message" in messages().ModelStreamInferResponse.FromString(answers[0]).error_message
    require_well(shared, example)


def test_more_json_than_a_request_has_is_refused_unread(shared: Server, example: Example) -> None:
    """The largest valid request of the model is eight clips, of which each value takes at most eight bytes."""
    largest = 8 * 8 * example.clip.values[0].size + 2**20
    for size, status, words in (
        (largest + 1, 413, f"at most {largest} bytes"),
        (largest, 400, "expected one input"),
    ):
        start, end = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "UINT8", "data": [1', b"]}]}"
        body = start + b",1" * ((size - len(start) - len(end)) // 2)
        body = body.ljust(size - len(end)) + end
        answered, text = request(shared.host, shared.http, "POST", INFER, body)
        assert answered == status
        assert words in text.decode()
    require_well(shared, example)


def test_a_full_server_is_live_and_ready(exported: Path, example: Example, tmp_path: Path) -> None:
    options, gate = ("--max-requests", 1), tmp_path / "gate"
    with serving(exported / "server", *options, before=held(gate)) as server, ThreadPoolExecutor(1) as threads:
        gate.touch()
        first = threads.submit(ask_http, server, example.clip)
        while not server.value("lcve_pending_requests"):
            pass
        assert ask_http(server, example.clip)[0] == 503
        for path in ("/v2/health/live", "/v2/health/ready"):
            assert server.get(path)[0] == 200
            assert server.get(path, port=server.metrics)[0] == 200
        gate.unlink()
        assert first.result()[0] == 200


def test_what_was_accepted_is_answered_at_the_end_and_no_more(exported: Path, example: Example) -> None:
    answers: Counter[str] = Counter()
    told = threading.Event()

    def ask(number: int) -> None:
        """Ask until the server is away; every answer is right, and every refusal says why."""
        while True:
            try:
                status, answer = (ask_http, ask_grpc)[number % 2](server, example.clip)
            except OSError:
                assert told.is_set()
                answers["away"] += 1
                return
            if status in (200, "OK"):
                np.testing.assert_allclose(answer, example.logits, atol=1e-5)
                answers["right"] += 1
                continue
            assert told.is_set(), answer
            assert status in (503, "UNAVAILABLE", "CANCELLED"), answer
            answers["refused"] += 1
            return

    with serving(exported / "server", "--grace", 20, before=slow(0.05)) as server, ThreadPoolExecutor(6) as threads:
        work = [threads.submit(ask, number) for number in range(6)]
        while server.value("lcve_requests_total", code="OK") < 12:
            pass
        told.set()
        assert server.end() == 0
        for task in work:
            task.result()
        assert server.wait_for("stopped")["unanswered"] == 0
        # gRPC cancels calls that arrive as it stops, before the server sees them; the server itself cancels none.
        assert "CANCELLED" not in {line.get("code") for line in server.log()}
    assert answers["right"] >= 12
    assert answers["away"] + answers["refused"] == 6


@pytest.mark.parametrize("reader", ["full disk", "stopped", "gone"])
def test_a_log_that_nobody_takes_holds_nothing_up(exported: Path, example: Example, reader: str) -> None:
    reading, writing = os.pipe()
    if reader == "gone":
        os.close(reading)
    stderr = os.open("/dev/full", os.O_WRONLY) if reader == "full disk" else writing
    with serving(exported / "server", stderr=stderr) as server:
        for _ in range(400):  # some 200 bytes a line: more than a pipe holds
            assert server.get("/v2/health/live")[0] == 200
        require_well(server, example)
        assert server.end() == 0
    for descriptor in {writing, stderr} | (set() if reader == "gone" else {reading}):
        os.close(descriptor)


def test_a_killed_server_starts_again_on_its_ports(exported: Path, example: Example) -> None:
    with serving(exported / "server") as server:
        server.signal(signal.SIGKILL)
        server.wait()
        ports = ("--http-port", server.http, "--grpc-port", server.grpc, "--metrics-port", server.metrics)
    with serving(exported / "server", ports=ports) as server:
        require_well(server, example)
