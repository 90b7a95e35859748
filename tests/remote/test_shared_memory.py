"""Shared memory."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteSession
from lcve_deploy.errors import (
    LcveError,
    SessionError,
)
from tests.remote.helpers import BINDING, QUICK, clips, set_to
from tests.support import fake_server as fake
from tests.support.fake_server import GrpcServer, Model, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")


def _regions() -> set[str]:
    return {path.name for path in fake.SHARED.glob("lcve_*")}


SHARING = dataclasses.replace(QUICK, shared_memory=True)


@LINUX
def test_clips_go_through_one_region_that_is_made_once_and_removed() -> None:
    with GrpcServer(Model(BINDING)) as server:
        with RemoteSession(server.address, BINDING, SHARING) as session:
            for seed in range(4):
                clip = clips(3, seed=seed)
                np.testing.assert_array_equal(session.run(clip), logits_of(clip.values))
            (name,) = _regions() & set(server.model.regions)
            assert len(name) > 30
            assert (fake.SHARED / name).stat().st_mode & 0o777 == 0o600
        assert not _regions()
        assert server.model.registered == 1
        assert server.model.regions == {}
        assert not any(request.raw_input_contents for request in server.model.infers)


@LINUX
def test_threads_have_regions_of_their_own() -> None:
    stack = [clips(1 + seed % 4, seed=seed) for seed in range(40)]
    with GrpcServer(Model(BINDING)) as server:
        with RemoteSession(server.address, BINDING, SHARING) as session, ThreadPoolExecutor(6) as threads:
            for clip, logits in zip(stack, threads.map(session.run, stack), strict=True):
                np.testing.assert_array_equal(logits, logits_of(clip.values))
        assert server.model.regions == {}
    assert not _regions()


@LINUX
@pytest.mark.parametrize(
    "fault",
    [fake.FAILED, fake.AWAY, fake.LATE, set_to("outputs.clear", None)],
    ids=["failed", "away", "late", "no output"],
)
def test_no_region_is_left_after_an_error(fault: Any) -> None:
    with GrpcServer(Model(BINDING)) as server:
        server.model.next.extend([fault] * 3)
        with pytest.raises(LcveError), RemoteSession(server.address, BINDING, SHARING) as session:
            session.run(clips())
        assert server.model.regions == {}
        server.model.next.clear()
        with pytest.raises(ZeroDivisionError), RemoteSession(server.address, BINDING, SHARING) as session:
            _ = session.run(clips()) / (1 // 0)
        assert server.model.regions == {}
    assert not _regions()


@LINUX
def test_a_server_without_shared_memory_gets_clips_as_bytes() -> None:
    with GrpcServer(Model(BINDING, shares_memory=False)) as server:
        with RemoteSession(server.address, BINDING, SHARING) as session:
            for _ in range(3):
                session.run(clips())
            assert not _regions()
        assert all(request.raw_input_contents for request in server.model.infers)


@LINUX
def test_a_server_that_forgot_its_regions_is_told_again() -> None:
    with GrpcServer(Model(BINDING)) as server:
        with RemoteSession(server.address, BINDING, SHARING) as session:
            session.run(clips())
            server.model.regions.clear()
            for _ in range(3):
                session.run(clips())
        assert server.model.registered == 2
        assert sum(bool(request.raw_input_contents) for request in server.model.infers) == 1
    assert not _regions()


@LINUX
def test_without_room_for_shared_memory_clips_go_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(size: int) -> None:
        raise SessionError("full")

    monkeypatch.setattr("lcve_deploy.remote.shared._require_free_space", full)
    with GrpcServer(Model(BINDING)) as server, RemoteSession(server.address, BINDING, SHARING) as session:
        session.run(clips())
        assert server.model.registered == 0


LEFT_OPEN = """
import sys
from lcve_deploy import RemoteSession
from tests.remote.helpers import BINDING, clips
from tests.remote.test_shared_memory import SHARING, _regions
session = RemoteSession(sys.argv[1], BINDING, SHARING)
session.run(clips())
assert len(_regions()) == 1
"""


@LINUX
def test_a_program_that_does_not_close_leaves_no_region() -> None:
    with GrpcServer(Model(BINDING)) as server:
        command = [sys.executable, "-c", LEFT_OPEN, server.address]
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=True)
    assert "leaked" not in result.stderr
    assert not _regions()
