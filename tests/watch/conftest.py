"""Fixtures of the tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lcve_deploy import Client, SecurityKey
from tests.support.fake_server import GrpcServer, Model
from tests.test_video import make_video
from tests.watch.helpers import (
    Command,
    noisy_frames,
)


@pytest.fixture
def client(exported: Path, key: SecurityKey) -> Client:
    return Client.open(exported / "client", key)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Ten windows of 8 frames."""
    return make_video(tmp_path / "film.mp4", noisy_frames(80))


@pytest.fixture
def server(client: Client) -> Iterator[GrpcServer]:
    with GrpcServer(Model(client.settings.binding)) as server:
        yield server


@pytest.fixture
def watching(server: GrpcServer, exported: Path, key_file: Path) -> Command:
    return Command(server.address, exported, key_file)
