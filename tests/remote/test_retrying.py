"""Asking again."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    MismatchError,
    RateError,
    RequestError,
    SessionError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)
from lcve_deploy.remote.faults import grpc_fault, http_fault
from tests.remote.helpers import BINDING, QUICK, STATUSES, Raw, Server, but, clips, free_port, other
from tests.support import fake_server as fake
from tests.support.fake_server import HttpServer, Model, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all
ABORTED = fake.Refusal("ABORTED", 502, "another one came between")
CANCELLED = fake.Refusal("CANCELLED", 503, "given up")


def test_every_status_of_grpc_is_one_of_our_errors() -> None:
    import grpc

    assert {status.name for status in grpc.StatusCode} - {"OK"} <= STATUSES.keys()
    assert {status: grpc_fault(status, "no", "x").kind for status in STATUSES} == STATUSES


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RequestError),
        (401, DeniedError),
        (403, DeniedError),
        (404, UnknownModelError),
        (408, DeadlineError),
        (413, TooLargeError),
        (429, RateError),
        (500, SessionError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, DeadlineError),
        (301, RequestError),
        (599, SessionError),
    ],
)
def test_every_status_of_http_is_one_of_our_errors(status: int, kind: type[LcveError]) -> None:
    assert http_fault(status, "no", "x").kind is kind


@pytest.mark.parametrize(
    "fault", [fake.AWAY, fake.BUSY, ABORTED, CANCELLED], ids=["away", "busy", "aborted", "cancelled"]
)
def test_what_may_pass_is_asked_again(server: Server, fault: fake.Refusal) -> None:
    server.model.next.extend([fault, fault])
    with RemoteSession(server.address, BINDING, QUICK) as session:
        np.testing.assert_array_equal(session.run(clips()), logits_of(clips().values))
        assert len(server.model.infers) == 3
        server.model.next.extend([fault] * 9)
        with pytest.raises(RateError if fault is fake.BUSY else UnavailableError, match=fault.words) as caught:
            session.run(clips())
    assert caught.value.hint
    assert len(server.model.infers) == 6


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (fake.INVALID, RequestError),
        (fake.UNKNOWN, UnknownModelError),
        (fake.LARGE, TooLargeError),
        (fake.DENIED, DeniedError),
        (fake.FAILED, SessionError),
        (fake.LATE, DeadlineError),
        (fake.Refusal("UNIMPLEMENTED", 405), RequestError),
        (fake.Refusal("PERMISSION_DENIED", 403), DeniedError),
    ],
)
def test_what_repeats_is_not_asked_again(server: Server, fault: fake.Refusal, kind: type[LcveError]) -> None:
    server.model.next.extend([fault] * 5)
    with (
        RemoteSession(server.address, BINDING, QUICK) as session,
        pytest.raises(LcveError, match=fault.words) as caught,
    ):
        session.run(clips())
    assert type(caught.value) is kind
    assert caught.value.hint or kind is RequestError
    assert len(server.model.infers) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("0", 0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("9" * 16, None),
        ("Fri, 27 Nov 2026 08:00:00 GMT", None),
    ],
)
def test_what_a_server_says_of_the_next_try_is_read_over_both_protocols(
    server: Server, text: str, number: int | None
) -> None:
    server.model.next.append(fake.Refusal("UNAVAILABLE", 503, "full", retry_after=text))
    with (
        RemoteSession(server.address, BINDING, dataclasses.replace(QUICK, retries=0)) as session,
        pytest.raises(UnavailableError) as caught,
    ):
        session.run(clips())
    unit = 1e3 if server.address.startswith("grpc") else 1
    assert caught.value.retry_after == (None if number is None else number / unit)


def test_a_first_contact_that_fails_is_made_again(server: Server) -> None:
    server.model.describes.append(fake.AWAY)
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
    assert server.model.described == 2


def test_a_server_that_hangs_costs_the_deadline_alone(server: Server) -> None:
    server.model.next.extend([fake.Hang()] * 5)
    with RemoteSession(server.address, BINDING, dataclasses.replace(QUICK, retries=50)) as session:
        session.connect()
        with pytest.raises(DeadlineError):
            but(session, deadline=0.4).run(clips())
        server.model.ended.set()
    assert len(server.model.infers) == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_an_answer_that_trickles_costs_the_deadline_alone(answer: bytes) -> None:
    """A wait that began anew with every byte would not end."""
    ended = threading.Event()

    def trickle(connection: socket.socket) -> None:
        connection.sendall(answer)
        while not ended.wait(0.02):
            connection.sendall(b"A")

    options = dataclasses.replace(QUICK, deadline=0.4)
    with Raw(b"", trickle) as raw, RemoteSession(f"http://127.0.0.1:{raw.port}/m", BINDING, options) as session:
        with pytest.raises(DeadlineError):
            session.run(clips())
        ended.set()


def test_a_server_that_is_away_is_an_error_after_the_retries(start: Callable[..., Server]) -> None:
    server = start()
    server.stop()
    with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(UnavailableError) as caught:
        session.run(clips())
    assert "port" in caught.value.hint


def test_a_server_that_ends_between_two_requests_is_found_again(start: Callable[..., Server]) -> None:
    server = start()
    options = dataclasses.replace(QUICK, retries=20, pause=0.05)
    with RemoteSession(server.address, BINDING, options) as session:
        session.run(clips())
        server.stop()
        again = start(Model(BINDING), port=server.port)
        np.testing.assert_array_equal(session.run(clips()), logits_of(clips().values))
        assert len(again.model.infers) == 1


def test_a_server_that_comes_back_with_another_model_gets_no_clip(start: Callable[..., Server]) -> None:
    server = start()
    with RemoteSession(server.address, BINDING, dataclasses.replace(QUICK, retries=20, pause=0.05)) as session:
        session.run(clips())
        server.stop()
        with pytest.raises((UnavailableError, DeadlineError)):
            but(session, retries=1).run(clips())
        again = start(Model(other(salt="c" * 32)), port=server.port)
        with pytest.raises(MismatchError):
            session.run(clips())
        assert again.model.infers == []


def test_a_connection_that_ends_in_place_of_an_answer_is_made_again() -> None:
    with HttpServer(Model(BINDING)) as server:
        server.model.next.append(fake.Drop())
        with RemoteSession(server.address, BINDING, QUICK) as session:
            session.run(clips())
        assert len(server.model.infers) == 2


def test_a_closed_session_says_so(server: Server) -> None:
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
    session.close()
    with pytest.raises(SessionError, match="closed"):
        session.run(clips())


def test_closing_ends_the_wait_for_the_next_try() -> None:
    options = RemoteOptions(deadline=600, retries=1000, pause=300, max_pause=300)
    session = RemoteSession(f"grpc://127.0.0.1:{free_port()}/m", BINDING, options)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(session.run, clips())
        with pytest.raises(TimeoutError):
            future.result(timeout=0.3)
        session.close()
        with pytest.raises(SessionError, match="closed"):
            future.result(timeout=20)
