"""Fixtures of the tests in this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import Binding, Client, SecurityKey
from tests.remote.helpers import BINDING, Server
from tests.support.fake_server import GrpcServer, HttpServer, Model


@pytest.fixture(autouse=True)
def _no_token_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LCVE_TOKEN", raising=False)


@pytest.fixture(params=[GrpcServer, HttpServer], ids=["grpc", "http"])
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Server]]:
    """Starts servers; they end with the test."""
    started: list[Server] = []

    def begin(model: Model | None = None, **more: Any) -> Server:
        started.append(request.param(model or Model(BINDING), **more))
        return started[-1]

    yield begin
    for server in started:
        server.stop()


@pytest.fixture
def server(start: Callable[..., Server]) -> Server:
    return start()


@pytest.fixture(scope="module")
def served(exported: Path, key_file: Path) -> Binding:
    """Of the clips of the exported artifact; servers with it answer as a stand-in does."""
    return Client.open(exported / "client", SecurityKey.read(key_file)).settings.binding
