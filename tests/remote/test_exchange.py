"""What is sent and received."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from lcve_deploy import EncryptedClip, Layout, RemoteSession
from lcve_deploy.errors import (
    MismatchError,
    RequestError,
    SessionError,
)
from lcve_deploy.remote.connection import Connection
from tests.conftest import GEOMETRY
from tests.remote.helpers import BINDING, QUICK, Server, clips, other
from tests.support import fake_server as fake
from tests.support.fake_server import GrpcServer, Model, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def test_logits_of_a_server_are_those_of_the_clips(server: Server) -> None:
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for count in (1, 3, 8, 20):
            clip = clips(count, seed=count)
            logits = session.run(clip)
            assert logits.dtype == np.float32
            assert logits.flags.writeable
            np.testing.assert_array_equal(logits, logits_of(clip.values))
    assert server.model.described == 1
    assert len(server.model.infers) == 3 + 3  # 20 clips are 8, 8 and 4


@pytest.mark.parametrize("layout", list(Layout))
def test_any_layout_and_a_server_without_a_largest_batch(start: Callable[..., Server], layout: Layout) -> None:
    binding = other(layout=layout)
    server, clip = start(Model(binding, max_batch=0)), clips(20, binding=binding)
    with RemoteSession(server.address, binding, QUICK) as session:
        np.testing.assert_array_equal(session.run(clip), logits_of(clip.values))
        assert session.connect().max_batch is None
    assert len(server.model.infers) == 1


def test_values_that_are_not_contiguous_are_sent_in_their_order(server: Server) -> None:
    whole = clips(8).values
    clip = EncryptedClip(values=whole[::-2], binding=BINDING)
    with RemoteSession(server.address, BINDING, QUICK) as session:
        np.testing.assert_array_equal(session.run(clip), logits_of(clip.values))


def test_clips_of_many_megabytes_pass(start: Callable[..., Server]) -> None:
    """gRPC in Python refuses messages above 4 MiB unless it is told otherwise."""
    geometry = dataclasses.replace(GEOMETRY, frames=16, height=224, width=224)
    binding = other(geometry=geometry)
    server, clip = start(Model(binding)), clips(8, binding=binding)
    assert clip.values.nbytes > 19_000_000
    with RemoteSession(server.address, binding, QUICK) as session:
        np.testing.assert_array_equal(session.run(clip), logits_of(clip.values))


def test_requests_carry_the_binding(server: Server) -> None:
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
    (request,) = server.model.infers
    sent = (
        request["parameters"]
        if isinstance(request, dict)
        else {k: v.string_param for k, v in request.parameters.items()}
    )
    assert sent["lcve_key_id"] == BINDING.key_id
    assert sent["lcve_geometry"] == str(GEOMETRY)


def test_a_version_that_is_named_is_the_one_that_is_asked(start: Callable[..., Server]) -> None:
    server = start(Model(BINDING, versions=["1", "2"]))
    server.model.next.append(lambda response: setattr(response, "model_version", "2"))
    with RemoteSession(f"{server.address}/1", BINDING, QUICK) as session:
        with pytest.raises(SessionError, match="version '2'"):
            session.run(clips())
        session.run(clips())


def test_an_answer_of_a_new_version_is_believed_once_its_model_is_checked(server: Server) -> None:
    """A server that is given a rotated artifact while a session lasts."""
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
        server.model.versions.append("2")
        session.run(clips())
        assert server.model.described == 2
        server.model.versions.append("3")
        server.model.binding = other(salt="c" * 32)
        with pytest.raises(MismatchError, match="salt"):
            session.run(clips())


def test_threads_share_a_session(server: Server) -> None:
    stack = [clips(1 + seed % 3, seed=seed) for seed in range(60)]
    with RemoteSession(server.address, BINDING, QUICK) as session, ThreadPoolExecutor(12) as threads:
        for clip, logits in zip(stack, threads.map(session.run, stack), strict=True):
            np.testing.assert_array_equal(logits, logits_of(clip.values))


def test_many_clips_are_answered_in_their_order(server: Server) -> None:
    taken = []

    def stream() -> Iterator[EncryptedClip]:
        for seed in range(20):
            taken.append(seed)
            yield clips(seed=seed)

    with RemoteSession(server.address, BINDING, QUICK) as session:
        for seed, logits in enumerate(session.map(stream(), in_flight=3)):
            np.testing.assert_array_equal(logits, logits_of(clips(seed=seed).values))
            assert len(taken) <= seed + 3
        server.model.next.extend([fake.INVALID])
        with pytest.raises(RequestError):
            list(session.map(stream()))
        session.run(clips())


def test_connections_are_kept(start: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    server = start()
    if isinstance(server, GrpcServer):
        pytest.skip("a channel of gRPC is one connection")
    opened = []
    real = Connection._connect
    monkeypatch.setattr(Connection, "_connect", lambda *given: opened.append(1) or real(*given))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for _ in range(5):
            session.run(clips())
    assert len(opened) == 1
