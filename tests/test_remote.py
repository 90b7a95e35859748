"""A session with a server: what it sends, what it believes, when it asks again, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lcve_deploy import Binding, EncryptedClip, Layout, RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    MismatchError,
    RequestError,
    SessionError,
    TooLargeError,
    UnavailableError,
    UnknownModelError,
)

from . import fake_server as fake
from .conftest import GEOMETRY
from .fake_server import GrpcServer, HttpServer, Model, logits_of

BINDING = Binding(scheme="lcve-1", key_id="a" * 32, salt="b" * 32, geometry=GEOMETRY, layout=Layout.CUBES)
QUICK = RemoteOptions(deadline=20, retries=2, pause=0.001, rest=0.001)


def clips(count: int = 1, *, seed: int = 0, binding: Binding = BINDING) -> EncryptedClip:
    values = np.random.default_rng(seed).integers(0, 256, (count, *binding.layout.shape(GEOMETRY)), np.uint8)
    return EncryptedClip(values=values, binding=binding)


@pytest.fixture(params=[GrpcServer, HttpServer], ids=["grpc", "http"])
def server(request: pytest.FixtureRequest) -> Iterator[GrpcServer | HttpServer]:
    with request.param(Model(BINDING)) as server:
        yield server


def test_logits_of_a_server_are_those_of_the_clips(server: GrpcServer) -> None:
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for count in (1, 3, 8, 20):
            clip = clips(count, seed=count)
            logits = session.run(clip)
            assert logits.dtype == np.float32
            np.testing.assert_array_equal(logits, logits_of(clip.values))
    assert server.model.described == 1
    assert len(server.model.infers) == 3 + 3  # 20 clips are 8, 8 and 4
