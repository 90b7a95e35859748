"""Several endpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import (
    DeadlineError,
    LcveError,
    MismatchError,
    RateError,
    SessionError,
    UnavailableError,
)
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.remote import Address
from lcve_deploy.remote.endpoints import Endpoint, Endpoints
from lcve_deploy.remote.over_grpc import GrpcTransport
from lcve_deploy.remote.over_http import HttpTransport
from lcve_deploy.remote.retrying import persist
from lcve_deploy.remote.token import Token
from lcve_deploy.remote.transport import LogitsReply
from tests.remote.helpers import BINDING, QUICK, Server, but, clips, other
from tests.support import fake_server as fake
from tests.support.fake_server import Model, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all


def joined(*servers: Server) -> str:
    return f"{servers[0].scheme}://{','.join(server.endpoint for server in servers)}/{servers[0].model.name}"


def test_another_endpoint_answers_at_once_for_one_that_is_away(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    first.stop()
    options = RemoteOptions(deadline=30, retries=1, pause=1000, max_pause=1000, rest=1000)
    with RemoteSession(joined(first, second), BINDING, options) as session:
        assert session.connect().endpoint == second.endpoint
        for _ in range(3):
            session.run(clips())
    assert len(second.model.infers) == 3


def test_an_endpoint_that_is_full_is_passed_over(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    first.model.next.extend([fake.BUSY, fake.AWAY])
    with RemoteSession(joined(first, second), BINDING, dataclasses.replace(QUICK, rest=1000)) as session:
        for _ in range(3):
            session.run(clips())
    assert (len(first.model.infers), len(second.model.infers)) == (1, 3)


def test_after_a_hang_the_next_request_goes_elsewhere(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    first.model.next.append(fake.Hang())
    with RemoteSession(joined(first, second), BINDING, dataclasses.replace(QUICK, rest=1000)) as session:
        session.connect()
        with pytest.raises(DeadlineError):
            but(session, deadline=0.4).run(clips())
        session.run(clips())
        first.model.ended.set()
    assert len(second.model.infers) == 1


def test_a_first_contact_that_hangs_leaves_time_for_another_endpoint(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    first.model.describes.append(fake.Hang())
    with RemoteSession(joined(first, second), BINDING, dataclasses.replace(QUICK, deadline=4.0, rest=1000)) as session:
        session.run(clips())
        first.model.ended.set()
    assert (len(first.model.infers), len(second.model.infers)) == (0, 1)


def test_every_endpoint_is_checked_before_it_gets_a_clip(start: Callable[..., Server]) -> None:
    first, second = start(), start(Model(other(salt="c" * 32)))
    first.model.next.append(fake.AWAY)
    options = dataclasses.replace(QUICK, rest=1000)  # else a slow machine asks the first again
    with RemoteSession(joined(first, second), BINDING, options) as session, pytest.raises(MismatchError):
        session.run(clips())
    assert second.model.infers == []


def test_endpoints_with_other_largest_batches_share_a_stack(start: Callable[..., Server]) -> None:
    first, second = start(Model(BINDING, max_batch=4)), start(Model(BINDING, max_batch=3))
    first.model.next.extend([lambda response: None, fake.AWAY])
    with RemoteSession(joined(first, second), BINDING, dataclasses.replace(QUICK, rest=1000)) as session:
        np.testing.assert_array_equal(session.run(clips(11)), logits_of(clips(11).values))
    assert len(second.model.infers) == 3


class Member:
    """An endpoint of the arithmetic of retries alone."""

    def __init__(self) -> None:
        self.forgotten = 0

    def forget(self) -> None:
        self.forgotten += 1


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def _persisted(
    options: RemoteOptions, members: int, errors: list[LcveError], cost: float = 0.0
) -> tuple[Clock, list[int], Any]:
    """Pauses, the members that were asked, and how it ended. Each try gets what is left of the deadline."""
    clock, everyone, asked = Clock(), [Member() for _ in range(members)], list[int]()
    endpoints = Endpoints(everyone, rest=options.rest, clock=clock)  # type: ignore[arg-type]

    def ask(member: Any, left: float) -> str:
        assert left == pytest.approx(100 + options.deadline - clock.now)
        asked.append(everyone.index(member))
        clock.now += cost
        if errors:
            raise errors.pop(0)
        return "answer"

    try:
        return clock, asked, persist(ask, endpoints, options, pause=clock.wait, clock=clock)
    except LcveError as error:
        return clock, asked, error


def test_pauses_double_with_jitter_up_to_the_longest() -> None:
    options = RemoteOptions(retries=8, pause=1, max_pause=10, deadline=1000)
    clock, asked, answer = _persisted(options, 1, [UnavailableError("x")] * 8)
    assert answer == "answer"
    assert len(asked) == 9
    for length, most in zip(clock.pauses, (1, 2, 4, 8, 10, 10, 10, 10), strict=True):
        assert most / 2 <= length <= most


def test_pauses_differ_from_client_to_client() -> None:
    """Else clients whom a server turned away together would come back together."""
    options = RemoteOptions(retries=1, pause=1, max_pause=1, deadline=1000)
    pauses = [_persisted(options, 1, [UnavailableError("x")])[0].pauses[0] for _ in range(300)]
    assert 0.5 <= min(pauses) < 0.6
    assert 0.9 < max(pauses) <= 1


def test_a_try_that_takes_long_leaves_less_for_the_next() -> None:
    options = RemoteOptions(retries=5, pause=0, deadline=10)
    clock, asked, answer = _persisted(options, 1, [UnavailableError("x")] * 3, cost=2.5)
    assert (answer, len(asked), clock.now) == ("answer", 4, 110)
    clock, asked, error = _persisted(options, 1, [UnavailableError("x")] * 5, cost=4)
    assert type(error) is DeadlineError
    assert (len(asked), clock.now) == (3, 112)


def test_a_server_that_says_when_to_try_again_is_not_asked_sooner() -> None:
    options = RemoteOptions(retries=3, pause=0.1, max_pause=10, deadline=1000)
    clock, asked, answer = _persisted(options, 1, [RateError("x", retry_after=3)] * 3)
    assert (answer, len(asked)) == ("answer", 4)
    assert all(3 <= length <= 4.5 for length in clock.pauses)


def test_a_server_cannot_make_a_client_wait_longer_than_the_longest_pause() -> None:
    options = RemoteOptions(retries=2, pause=0.1, max_pause=2, deadline=1000)
    clock, _, answer = _persisted(options, 1, [UnavailableError("x", retry_after=1e9)] * 2)
    assert answer == "answer"
    assert clock.pauses == [2, 2]


def test_another_endpoint_is_asked_at_once_and_the_first_not_before_it_said() -> None:
    options = RemoteOptions(retries=3, pause=0.1, max_pause=10, deadline=1000, rest=0)
    clock, asked, answer = _persisted(options, 2, [UnavailableError("x", retry_after=5)] * 2)
    assert (asked, answer) == ([0, 0, 0], "answer")
    options = dataclasses.replace(options, rest=7)
    clock, asked, answer = _persisted(options, 2, [UnavailableError("x", retry_after=5)] * 2)
    assert (asked, answer) == ([0, 1, 0], "answer")
    (length,) = clock.pauses
    assert 5 <= length <= 7.5


def test_a_pause_that_a_server_asks_for_and_the_deadline_does_not_allow_is_not_made() -> None:
    options = RemoteOptions(retries=3, pause=0.1, max_pause=100, deadline=4)
    clock, _, error = _persisted(options, 1, [UnavailableError("full", retry_after=5)])
    assert type(error) is DeadlineError
    assert "full" in str(error)
    assert not clock.pauses


class Slow:
    """A way to a server each of whose answers takes three seconds; what each was given."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.given, self.versions = clock, list[tuple[str, float]](), ["1"]

    def describe(self, seconds: float) -> tuple[Any, Any]:
        self._take("describe", seconds)
        model = Model(BINDING, versions=self.versions)
        return model.metadata(), model.config()

    def infer(self, request: Any, *, output: ModelOutput, seconds: float) -> Any:
        self._take("infer", seconds)
        return LogitsReply(logits=logits_of(request.values), model="digits", version="2")

    def _take(self, what: str, seconds: float) -> None:
        self.given.append((what, round(seconds, 6)))
        self.clock.now += 3


def test_the_parts_of_a_try_share_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """The description, the clips, and the description again where a version is new."""
    clock = Clock()
    monkeypatch.setattr("lcve_deploy.remote.transport.time.monotonic", clock)
    slow = Slow(clock)
    endpoint = Endpoint("x", Address.parse("grpc://x:1/digits"), BINDING, slow)  # type: ignore[arg-type]
    with pytest.raises(SessionError, match="version '2'"):
        endpoint.run(clips().values, 10, first_contact=10)
    assert slow.given == [("describe", 10), ("infer", 7), ("describe", 4)]


@pytest.mark.parametrize("way", ["grpc", "http"])
def test_the_two_questions_of_a_description_share_its_seconds(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, given = Clock(), list[float]()
    monkeypatch.setattr("lcve_deploy.remote.transport.time.monotonic", clock)

    def asked(seconds: float) -> Any:
        given.append(round(seconds, 6))
        clock.now += 3
        return SimpleNamespace(config="a configuration")

    monkeypatch.setattr(GrpcTransport, "_call", lambda self, name, seconds, *more: asked(seconds))
    monkeypatch.setattr(HttpTransport, "_description", lambda self, message, path, seconds: asked(seconds))
    kind = GrpcTransport if way == "grpc" else HttpTransport
    kind(Address.parse(f"{way}://x:1/digits"), "x:1", QUICK, Token()).describe(10)
    assert given == [10, 7]


def test_no_retry_begins_after_the_deadline() -> None:
    options = RemoteOptions(retries=1000, pause=1, max_pause=1, deadline=10)
    clock, asked, error = _persisted(options, 1, [UnavailableError("gone", hint="look")] * 1000)
    assert type(error) is DeadlineError
    assert "gone" in str(error)
    assert error.hint == "look"
    assert clock.now <= 110
    assert 10 <= len(asked) <= 21


def test_no_retries_is_one_try() -> None:
    _, asked, error = _persisted(RemoteOptions(retries=0), 3, [UnavailableError("x")] * 9)
    assert asked == [0]
    assert type(error) is UnavailableError


def test_endpoints_are_tried_in_turn_and_a_pause_comes_only_before_one_that_was_tried() -> None:
    options = RemoteOptions(retries=5, pause=1, deadline=100, rest=10)
    clock, asked, answer = _persisted(options, 3, [UnavailableError("x")] * 4)
    assert asked == [0, 1, 2, 0, 1]
    assert answer == "answer"
    assert len(clock.pauses) == 2


def test_the_preferred_endpoint_is_asked_again_once_it_has_rested() -> None:
    clock, members = Clock(), [Member(), Member()]
    endpoints: Any = Endpoints(members, rest=10, clock=clock)  # type: ignore[arg-type]
    endpoints.failed(members[0], UnavailableError("x"))
    assert endpoints.choose() is members[1]
    assert members[0].forgotten == 1
    clock.now += 10
    assert endpoints.choose() is members[0]
    endpoints.failed(members[0], RateError("x"))
    assert members[0].forgotten == 1  # it is still what it was: to ask it again would count as one more request
    endpoints.answered(members[0])
    assert endpoints.choose() is members[0]
