"""Sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lcve_deploy import Binding, RemoteSession
from lcve_deploy.errors import (
    LcveError,
    RateError,
    SessionError,
    TooLargeError,
)
from lcve_deploy.remote.faults import grpc_fault, http_fault
from lcve_deploy.remote.token import Token
from tests.conftest import ORACLE, run_lcve
from tests.remote.helpers import BINDING, QUICK, STATUSES, Server, clips
from tests.support import fake_server as fake
from tests.support.fake_server import GrpcServer, Model

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def test_too_many_bytes_for_the_server_are_said_to_be() -> None:
    server = GrpcServer(Model(BINDING), largest=1000)
    with server, RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(TooLargeError) as caught:
        session.run(clips())
    assert "limit" in caught.value.hint


@pytest.mark.parametrize("status", ["RESOURCE_EXHAUSTED", 413])
def test_a_request_that_was_padded_is_said_to_be(status: str | int) -> None:
    words = "the request has more than 1000 bytes"
    fault = grpc_fault(status, words, "x") if isinstance(status, str) else http_fault(status, words, "x")
    assert "--pad" not in fault.error(Token()).hint
    assert fault.error(Token(), pad=2**24).hint.startswith("clips are padded to multiples of 16777216 bytes: pad them")


def test_a_limit_that_grpc_set_when_it_started_is_said_to_be() -> None:
    words = "SERVER: Received message larger than max (5000000 vs. 4194304)"
    assert "restart the server" in grpc_fault("RESOURCE_EXHAUSTED", words, "x").error(Token()).hint


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", TooLargeError),
        ("CLIENT: Received message larger than max (5 vs. 4)", SessionError),
        ("CLIENT: Decompressed message larger than max (5 vs. 4)", SessionError),
        ("received metadata size exceeds hard limit (20000 vs. 16384)", SessionError),
        ("expected at most 1000 bytes", TooLargeError),
        ("at most 5 requests a second", RateError),
    ],
)
def test_one_status_of_grpc_has_two_meanings(words: str, kind: type[LcveError]) -> None:
    assert grpc_fault("RESOURCE_EXHAUSTED", words, "x").kind is kind


MOVES = "\x1b[2J\x9b31m\r\n\t\x07\x7f\u202e\u2028all is well"
"""What moves a terminal's cursor, rings its bell, ends a line, or turns the direction of writing."""


@pytest.mark.parametrize("status", sorted(STATUSES))
def test_a_servers_words_move_no_cursor(status: str) -> None:
    for fault in (grpc_fault(status, MOVES, "server:1"), http_fault(500, MOVES, "server:1")):
        said = str(fault.error(Token()))
        assert said.isprintable()
        assert "[2J" in said
        assert said.endswith("all is well")


def test_what_a_server_says_moves_no_cursor(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path
) -> None:
    server = start(Model(served))
    sides = ("--key", key_file, "--client", exported / "client")
    server.model.next.append(fake.Refusal("INTERNAL", 500, MOVES))
    server.model.describes.append(fake.Refusal("NOT_FOUND", 404, MOVES))
    for _ in range(2):  # the description is refused, then the clip
        result = run_lcve("run", server.address, ORACLE / "clip_8x32x32.npy", *sides)
        assert result.exit_code == 1
        assert result.output.replace("\n", "").isprintable()
        assert "all is well" in result.output
