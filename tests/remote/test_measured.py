"""What a session says of the requests that it sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession, SealingKey
from lcve_deploy.errors import LcveError, SessionError
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.protocol.sealing import SEALED, SEALING
from lcve_deploy.remote.bodies import read_answer
from lcve_deploy.remote.over_grpc import GrpcTransport
from lcve_deploy.remote.sealed import SealedQuestion
from lcve_deploy.remote.transport import Request
from tests.remote.helpers import BINDING, QUICK, Server, clips
from tests.support.fake_server import GrpcServer, Model, logits_of


def stating(microseconds: int) -> Callable[[Any], None]:
    """A step of the stand-in: its answer states this time."""

    def change(response: Any) -> None:
        response.parameters["lcve_server_us"].int64_param = microseconds

    return change


@pytest.mark.parametrize("count", [1, 20])
def test_bytes_are_those_that_the_server_received(server: Server, count: int) -> None:
    """20 clips go in three requests."""
    with RemoteSession(server.address, BINDING, QUICK) as session:
        run = session.run_measured(clips(count))
    np.testing.assert_array_equal(run.logits, logits_of(clips(count).values))
    assert run.sent_bytes == server.model.received
    assert run.sent_bytes > clips(count).values.nbytes
    assert run.server_seconds is None


def test_bytes_of_a_sealed_message_are_those_that_the_server_received() -> None:
    key, model = SealingKey.create(), Model(BINDING)
    model.change_config = lambda config: setattr(config.parameters[SEALING], "string_value", "required")
    request = Request.of(clips().values, BINDING)
    with GrpcServer(model) as server:
        session = RemoteSession(server.address, BINDING, RemoteOptions(seal_to=key.public_key, retries=0))
        with session, pytest.raises(LcveError):  # the stand-in seals no answers
            session.run(clips())
    (transport,) = [endpoint._transport for endpoint in session._endpoints.members]
    assert isinstance(transport, GrpcTransport)
    question = SealedQuestion(request, key.public_key, session.address, output=ModelOutput.logits(5))
    assert transport._message_bytes(SEALED, question.values, None, SEALED) == model.received


def test_the_time_that_a_server_states_is_the_sum_of_its_answers(server: Server) -> None:
    server.model.next.extend([stating(1500), stating(250), stating(0)])
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert session.run_measured(clips(20)).server_seconds == pytest.approx(1.75e-3)


def test_a_time_that_not_all_answers_state_is_unknown(server: Server) -> None:
    server.model.next.append(stating(1500))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert session.run_measured(clips(20)).server_seconds is None


def test_a_time_that_cannot_be_is_refused(server: Server) -> None:
    server.model.next.append(stating(-1))
    expected = r"invalid parameter lcve_server_us: expected a whole number of microseconds from 0, received -1"
    with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(SessionError, match=expected):
        session.run(clips())


@pytest.mark.parametrize("stated", ["1500", 1.5, True, 2**60, [], {}])
def test_a_time_that_cannot_be_is_named_over_http(stated: object) -> None:
    output = {"name": "logits", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    body = {"model_name": "m", "outputs": [output], "parameters": {"lcve_server_us": stated}}
    with pytest.raises(SessionError, match="host:1 answered with an invalid parameter lcve_server_us"):
        read_answer(json.dumps(body).encode(), None, (1, 2), "host:1")
