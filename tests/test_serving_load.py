"""Load, kills, bad requests by the thousand, bad certificates and jumping clocks: every request has its answer."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import json
import random
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.errors import DeniedError, LcveError, UnavailableError
from lcve_deploy.remote import RemoteOptions, RemoteSession
from tests.support.servers import (
    LENGTH,
    NAME,
    Example,
    Server,
    ask_grpc,
    ask_http,
    grpc_message,
    grpc_stub,
    http_body,
    make_example,
    request,
    serving,
    slow,
)
from tests.support.tls import Authority

MEBIBYTE = 2**20
INFER = f"/v2/models/{NAME}/infer"
PATIENT = RemoteOptions(deadline=60, retries=8, pause=0.05)
REFUSED = (503, 429, "UNAVAILABLE", "RESOURCE_EXHAUSTED")


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


def is_right(logits: Any, example: Example) -> bool:
    return bool(np.allclose(logits, example.logits, atol=1e-5))


def test_a_replica_that_is_killed_under_load_loses_no_request(exported: Path, example: Example) -> None:
    folder = exported / "server"
    with serving(folder, before=slow(0.02)) as first, serving(folder, before=slow(0.02)) as second:
        address = f"grpc://{first.host}:{first.grpc},{second.host}:{second.grpc}/{NAME}"
        with RemoteSession(address, example.clip.binding, PATIENT) as session, ThreadPoolExecutor(4) as threads:
            work = [threads.submit(session.run, example.clip) for _ in range(80)]
            work[10].result()
            first.signal(signal.SIGKILL)
            assert all(is_right(task.result(), example) for task in work)
        assert second.value("lcve_clips_total") > 0


def test_a_server_that_is_killed_under_load_answers_rightly_or_not_at_all(exported: Path, example: Example) -> None:
    ended: Counter[str] = Counter()

    def ask(session: RemoteSession) -> None:
        try:
            ended["right" if is_right(session.run(example.clip), example) else "wrong"] += 1
        except UnavailableError:
            ended["away"] += 1

    impatient = dataclasses.replace(PATIENT, retries=0)
    with (
        serving(exported / "server", before=slow(0.02)) as server,
        RemoteSession(server.address(), example.clip.binding, impatient) as session,
        ThreadPoolExecutor(4) as threads,
    ):
        work = [threads.submit(ask, session) for _ in range(60)]
        work[8].result()
        server.signal(signal.SIGKILL)
        for task in work:
            task.result()
    assert ended["right"] >= 8
    assert ended["away"] > 0
    assert ended["wrong"] == 0
    assert sum(ended.values()) == 60


def test_overload_is_refused_in_bounded_memory_and_passes(exported: Path, example: Example) -> None:
    """Some ten times as many requests at once as the server has places for."""
    told: Counter[Any] = Counter()
    lock = threading.Lock()

    def ask(number: int) -> None:
        status, answer = (ask_http, ask_grpc)[number % 2](server, example.clip)
        with lock:
            told[status] += 1
        assert status in REFUSED or is_right(answer, example), answer

    bounds = ("--max-batch", 2, "--max-queue", 4, "--max-requests", 8)
    with serving(exported / "server", *bounds, before=slow(0.05)) as server:
        ask(0)
        before = server.peak
        with ThreadPoolExecutor(80) as threads:
            for task in [threads.submit(ask, number) for number in range(800)]:
                task.result()
        assert server.peak - before < 100 * MEBIBYTE
        assert server.value("lcve_queue_clips") == 0
        ask(0)
        ask(1)
    answered = told[200] + told["OK"]
    assert answered > 2
    assert sum(told[status] for status in REFUSED) > answered
    assert sum(told.values()) == 803


@functools.cache
def bomb() -> bytes:
    """A small body that decompresses to a large one."""
    return gzip.compress(bytes(80 * MEBIBYTE))


def malformed_http(draw: random.Random, example: Example) -> tuple[bytes, dict[str, str]]:  # noqa: C901 (a table)
    """Body and headers of a request that no server may take."""
    body, headers = http_body(example.clip)
    length = int(headers[LENGTH])
    fields, raw = json.loads(body[:length]), body[length:]
    (tensor,) = fields["inputs"]
    kind = draw.randrange(14)
    match kind:
        case 0:
            tensor["shape"] = [draw.choice((0, -1, 2**40, 1.5, None, "1", True)), *tensor["shape"][1:]]
        case 1:
            tensor["shape"] = draw.sample(range(1, 500), draw.randrange(6))
        case 2:
            tensor["datatype"] = draw.choice(("FP32", "INT8", "", "uint8", 5, None))
        case 3:
            tensor["name"] = draw.choice(("clip", "", "x" * 5000, 7, None))
        case 4:
            raw = raw[: draw.randrange(len(raw))]
        case 5:
            raw += draw.randbytes(draw.randint(1, 50))
        case 6:
            tensor["parameters"]["binary_data_size"] = draw.choice((-1, 2**62, 0, "9", None, 1.5))
        case 7:
            fields["parameters"]["lcve_key_id"] = draw.choice(("00" * 16, "rubbish", "", 5))
        case 8:
            fields["parameters"].pop(draw.choice(("lcve_salt", "lcve_scheme", "lcve_geometry", "lcve_layout")))
        case 9:
            fields["inputs"] = draw.choice(([], None, {}, [None], [tensor, tensor], "clips"))
        case 10:
            fields["outputs"] = draw.choice(([{"name": "none"}], [{}], [{"name": "logits"}] * 2, 5, [5]))
        case 11:
            text = draw.choice((b"{", b"[" * 5000, b"\xff\xfe", b'{"inputs": NaN', b"null", b"1e999999", b"{}{}"))
            return text + raw, {LENGTH: str(len(text))}
        case 12:
            return body, {LENGTH: draw.choice(("-1", "x", "99999999999", "1.5", str(len(body) + 1), "3"))}
        case _:
            bad = (b"no gzip", gzip.compress(body)[:-9], bomb())
            return draw.choice(bad), {**headers, "Content-Encoding": "gzip"}
    text = json.dumps(fields).encode()
    return text + raw, {LENGTH: str(len(text))}


def malformed_grpc(draw: random.Random, example: Example) -> bytes:
    """A message that no server may take."""
    message = grpc_message(example.clip)
    (tensor,) = message.inputs
    match draw.randrange(9):
        case 0:
            del tensor.shape[:]
            tensor.shape.extend(draw.sample(range(-9, 500), draw.randrange(6)))
        case 1:
            tensor.datatype = draw.choice(("FP32", "", "uint8"))
        case 2:
            tensor.name = draw.choice(("clip", "", "x" * 5000))
        case 3:
            message.raw_input_contents[0] = message.raw_input_contents[0][: draw.randrange(1000)]
        case 4:
            message.raw_input_contents.extend([b"more"] * draw.randint(1, 9))
        case 5:
            message.parameters["lcve_key_id"].string_param = draw.choice(("00" * 16, "rubbish", ""))
        case 6:
            message.model_name = draw.choice(("none", "", "x" * 5000))
        case 7:
            message.outputs.add(name=draw.choice(("none", "")))
        case _:
            return message.SerializeToString()[: draw.randrange(20, 2000)]
    return bytes(message.SerializeToString())


def test_a_thousand_malformed_requests_are_refused_and_leave_nothing(exported: Path, example: Example) -> None:
    import grpc

    draw, told = random.Random(0), Counter[Any]()  # noqa: S311
    with serving(exported / "server", "--log-level", "error") as server:
        assert ask_http(server, example.clip)[0] == 200
        call = "/inference.GRPCInferenceService/ModelInfer"
        with grpc.insecure_channel(f"{server.host}:{server.grpc}") as channel:
            before = (server.descriptors, server.threads, server.peak)
            for _ in range(500):
                body, headers = malformed_http(draw, example)
                status, answer = request(server.host, server.http, "POST", INFER, body, headers)
                told[status] += 1
                assert set(json.loads(answer)) - {"lcve_error"} == {"error"}
                with pytest.raises(grpc.RpcError) as refused:
                    channel.unary_unary(call)(malformed_grpc(draw, example), timeout=30)
                told[refused.value.code().name] += 1
            after = (server.descriptors, server.threads, server.peak)
        every: list[tuple[Callable[..., tuple[Any, Any]], Any]] = [(ask_http, 200), (ask_grpc, "OK")]
        for ask, well in every:
            outcome, logits = ask(server, example.clip)
            assert (outcome, is_right(logits, example)) == (well, True)
        assert [line for line in server.log() if line["event"] != "raw"] == []  # nothing failed within
    assert set(told) <= {400, 404, 413, "INVALID_ARGUMENT", "NOT_FOUND"}, told
    assert sum(told.values()) == 1000
    assert after[0] <= before[0] + 4
    assert after[1] <= before[1] + 8
    assert after[2] - before[2] < 250 * MEBIBYTE


def test_senders_that_stop_or_say_nothing_are_closed(exported: Path, example: Example) -> None:
    heads = (
        b"",
        b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\n",
        b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /v2/models/model/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
    )
    with serving(exported / "server", "--read-timeout", 1) as server:
        sockets = [socket.create_connection((server.host, server.http), 60) for _ in heads for _ in range(5)]
        for number, connection in enumerate(sockets):
            connection.sendall(heads[number % len(heads)])
        for connection in sockets:
            while connection.recv(4096):  # an answer, or nothing; then the end
                pass
            connection.close()
        assert ask_http(server, example.clip)[0] == 200
        assert server.value("lcve_pending_requests") == 0


def test_clients_that_go_away_make_room(exported: Path, example: Example) -> None:
    import grpc

    with serving(exported / "server", "--max-batch", 1, "--max-queue", 4, before=slow(0.5)) as server:
        with grpc_stub(server) as stub:
            for _ in range(4):
                with pytest.raises(grpc.RpcError) as late:
                    stub.ModelInfer(grpc_message(example.clip), timeout=0.05)
                assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        status, logits = ask_grpc(server, example.clip)
        assert (status, is_right(logits, example)) == ("OK", True)
        assert server.value("lcve_queue_clips") == 0


def test_a_new_version_under_load_fails_no_request(exported: Path, example: Example, tmp_path: Path) -> None:
    shutil.copytree(exported / "server", tmp_path / "1")
    stop = threading.Event()

    def ask(session: RemoteSession) -> int:
        count = 0
        while not stop.is_set():
            assert is_right(session.run(example.clip), example)
            count += 1
        return count

    once = dataclasses.replace(PATIENT, retries=0)
    with (
        serving(tmp_path, "--poll", 0.05) as server,
        RemoteSession(server.address(), example.clip.binding, once) as session,
        ThreadPoolExecutor(3) as threads,
    ):
        work = [threads.submit(ask, session) for _ in range(3)]
        try:
            for number in (2, 3):
                shutil.copytree(exported / "server", tmp_path / ".new").rename(tmp_path / str(number))
                server.wait_for("model retired", version=str(number - 1))
        finally:
            stop.set()
        assert all(task.result() for task in work)


JUMPING = """
import random, time
real = time.time
time.time = lambda: real() + random.choice((-86400, 0, 86400))
"""


def test_a_clock_that_jumps_changes_no_time_but_the_logs(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--queue-delay", 5, before=JUMPING, fresh=True) as server:
        for _ in range(20):
            assert is_right(ask_http(server, example.clip)[1], example)
            assert is_right(ask_grpc(server, example.clip)[1], example)
        for name in ("lcve_request_seconds_sum", "lcve_queue_seconds_sum", "lcve_run_seconds_sum"):
            assert 0 <= server.value(name) < 600
        assert server.end() == 0


@pytest.fixture(params=["grpcs", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def guarded(exported: Path, authority: Authority, tmp_path: Path) -> Iterator[Server]:
    """A server with TLS, clients' certificates and tokens."""
    tokens = tmp_path / "tokens"
    tokens.write_text("camera-7 0123456789abcdef\n")
    tokens.chmod(0o600)
    tls = ("--tls-cert", authority.server.cert, "--tls-key", authority.server.key, "--tls-client-ca", authority.ca)
    with serving(exported / "server", *tls, "--tokens", tokens) as server:
        yield server


def test_certificates_and_tokens_open_or_refuse(
    guarded: Server,
    scheme: str,
    authority: Authority,
    example: Example,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LCVE_TOKEN", "0123456789abcdef")
    known = RemoteOptions(
        deadline=20, retries=0, tls_ca=authority.ca, tls_cert=authority.client.cert, tls_key=authority.client.key
    )

    def ask(options: RemoteOptions, address: str = "") -> bool:
        with RemoteSession(address or guarded.address(scheme), example.clip.binding, options) as session:
            return is_right(session.run(example.clip), example)

    assert ask(known)
    strangers: tuple[Callable[[], object], ...] = (
        lambda: ask(dataclasses.replace(known, tls_ca=None)),
        lambda: ask(dataclasses.replace(known, tls_ca=authority.folder / "stranger.pem")),
        lambda: ask(dataclasses.replace(known, tls_cert=None, tls_key=None)),
        lambda: ask(RemoteOptions(deadline=20, retries=0), guarded.address(scheme.rstrip("s"))),
    )
    for stranger in strangers:
        with pytest.raises(LcveError):
            stranger()
    monkeypatch.setenv("LCVE_TOKEN", "another-token-of-some-length")
    with pytest.raises(DeniedError):
        ask(known)
    monkeypatch.delenv("LCVE_TOKEN")
    with pytest.raises(DeniedError):
        ask(known)
    assert guarded.get("/v2/health/ready", port=guarded.metrics)[0] == 200
    assert "0123456789abcdef" not in json.dumps(guarded.log())
