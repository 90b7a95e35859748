"""When ``lcve serve`` refuses, and when it says that a request may come again."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from lcve_deploy.remote import RemoteOptions, RemoteSession
from tests.support.servers import NAME, Example, Server, grpc_message, grpc_stub, http_body, make_example, serving, slow

RUN = 0.4


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


def ask_http(server: Server, example: Example, timeout: float | None = None) -> tuple[int, str | None, str]:
    """Status, ``Retry-After`` and text of the error."""
    body, headers = http_body(example.clip)
    if timeout is not None:
        fields = json.loads(body[: int(headers["Inference-Header-Content-Length"])])["parameters"]
        body, headers = http_body(example.clip, parameters={**fields, "timeout": round(timeout * 1e6)})
    connection = http.client.HTTPConnection(server.host, server.http or 0, timeout=60)
    try:
        connection.request("POST", f"/v2/models/{NAME}/infer", body, headers)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    text = "" if response.status == 200 else json.loads(data)["error"]
    return response.status, response.getheader("Retry-After"), text


def ask_grpc(
    server: Server, example: Example, timeout: float = 60, parameter: float | None = None
) -> tuple[str, int | None, str]:
    """Code, milliseconds of the pushback, and text of the error."""
    message = grpc_message(example.clip)
    if parameter is not None:
        message.parameters["timeout"].int64_param = round(parameter * 1e6)
    with grpc_stub(server) as stub:
        try:
            stub.ModelInfer(message, timeout=timeout)
        except grpc.RpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            pushback = trailing.get("grpc-retry-pushback-ms")
            return error.code().name, None if pushback is None else int(pushback), error.details()
    return "OK", None, ""


def test_a_rate_limit_says_when_the_next_request_is_accepted(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--rate", 0.1) as server:
        assert ask_http(server, example)[0] == 200
        status, seconds, _ = ask_http(server, example)
        assert (status, 1 <= int(seconds or 0) <= 10) == (429, True)
        assert ask_grpc(server, example)[0] == "OK"  # the address of a client has another form there
        code, milliseconds, _ = ask_grpc(server, example)
        assert code == "RESOURCE_EXHAUSTED"
        assert milliseconds is not None
        assert 0 < milliseconds <= 10_000


def test_an_answer_and_a_refusal_that_repeats_say_nothing_of_a_next_try(exported: Path, example: Example) -> None:
    with serving(exported / "server") as server:
        assert ask_http(server, example)[:2] == (200, None)
        assert ask_grpc(server, example)[:2] == ("OK", None)
        message = grpc_message(example.clip, model="none")
        with grpc_stub(server) as stub, pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message, timeout=20)
        assert "grpc-retry-pushback-ms" not in dict(caught.value.trailing_metadata() or ())


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_client_waits_as_long_as_the_server_says(exported: Path, example: Example, scheme: str) -> None:
    """With pauses of its own that are too short, all its tries would be spent before the limit is past."""
    options = RemoteOptions(deadline=60, retries=2, pause=0.001, max_pause=5)
    with (
        serving(exported / "server", "--rate", 2) as server,
        RemoteSession(server.address(scheme), example.clip.binding, options) as session,
    ):
        for _ in range(4):
            session.run(example.clip)
        assert server.value("lcve_requests_total", code="RESOURCE_EXHAUSTED") >= 2


@pytest.fixture(scope="module")
def measured(exported: Path, example: Example) -> Iterator[Server]:
    """A server of which each run takes a while, and that has measured some."""
    options = ("--max-batch", 1, "--max-queue", 2)
    with serving(exported / "server", *options, before=slow(RUN)) as server:
        for _ in range(3):
            assert ask_http(server, example)[0] == 200
        yield server


def runs(server: Server) -> float:
    return server.value("lcve_run_seconds_count")


def test_a_timeout_that_no_run_meets_is_refused_before_it_runs(measured: Server, example: Example) -> None:
    assert ask_http(measured, example)[0] == 200
    before = runs(measured)
    status, seconds, text = ask_http(measured, example, timeout=RUN / 4)
    assert (status, seconds) == (504, None)
    assert "a run takes at least" in text
    for answer in (ask_grpc(measured, example, timeout=RUN / 4), ask_grpc(measured, example, parameter=RUN / 4)):
        assert answer[:2] == ("DEADLINE_EXCEEDED", None)
        assert "a run takes at least" in answer[2]
    assert runs(measured) == before
    assert ask_http(measured, example, timeout=60)[0] == 200
    assert ask_grpc(measured, example, timeout=60)[0] == "OK"


def fill(server: Server, example: Example, pool: ThreadPoolExecutor, waiting: int) -> list[Any]:
    """Requests in the background: one runs, the others wait."""
    busy = [pool.submit(ask_http, server, example)]
    while server.value("lcve_pending_requests") < 1 or server.value("lcve_queue_clips"):
        threading.Event().wait(0.01)
    busy += [pool.submit(ask_http, server, example) for _ in range(waiting)]
    while server.value("lcve_queue_clips") < waiting:
        threading.Event().wait(0.005)
    return busy


def test_a_timeout_that_ends_in_the_queue_is_refused_with_the_time_of_the_next_try(
    exported: Path, example: Example
) -> None:
    with serving(exported / "server", "--max-batch", 1, "--max-queue", 9, before=slow(0.5)) as server:
        for _ in range(3):
            assert ask_http(server, example)[0] == 200
        with ThreadPoolExecutor(9) as pool:
            busy = fill(server, example, pool, 7)
            status, seconds, text = ask_http(server, example, timeout=1.0)
            code, milliseconds, _ = ask_grpc(server, example, timeout=1.0)
            assert [work.result()[0] for work in busy] == [200] * 8
    assert (status, "clips wait" in text) == (503, True)
    assert 2 <= int(seconds or 0) <= 5
    assert code == "UNAVAILABLE"
    assert milliseconds is not None
    assert 1000 < milliseconds < 5000


def test_a_full_queue_says_when_a_place_is_expected(measured: Server, example: Example) -> None:
    with ThreadPoolExecutor(9) as pool:
        busy = fill(measured, example, pool, 2)
        status, seconds, text = ask_http(measured, example)
        code, milliseconds, _ = ask_grpc(measured, example)
        assert [work.result()[0] for work in busy] == [200] * 3
    assert (status, seconds, "the queue is full" in text) == (503, "1", True)
    assert code == "UNAVAILABLE"
    assert milliseconds is not None
    assert RUN * 1000 <= milliseconds < 10 * RUN * 1000


def test_nothing_is_refused_for_its_timeout_before_anything_was_measured(exported: Path, example: Example) -> None:
    with serving(exported / "server", before=slow(RUN)) as server:
        status, _, text = ask_http(server, example, timeout=RUN / 4)
        assert (status, "timed out" in text) == (504, True)
