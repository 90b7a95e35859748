"""``grpc.health.v1`` and server reflection of ``lcve serve``."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from tests.support.servers import NAME, Server, ask_http, held, make_example, serving, slow

TOKEN = "0123456789abcdef"
AUTHORIZED = (("authorization", f"Bearer {TOKEN}"),)
SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.ServingStatus.Value(name) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)
SERVICE = "inference.GRPCInferenceService"


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    with serving(exported / "server") as server:
        yield server


@pytest.fixture(scope="module")
def guarded(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with tokens."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"camera-7 {TOKEN}\n")
    tokens.chmod(0o600)
    with serving(exported / "server", "--tokens", tokens) as server:
        yield server


@contextlib.contextmanager
def channel_to(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"{server.host}:{server.grpc}", [("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel


def check(server: Server, service: str, metadata: Any = None) -> int | str:
    """The status, or the name of the code of an error."""
    with channel_to(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return str(error.code().name)
        return int(answer.status)


@pytest.mark.parametrize("service", ["", SERVICE, NAME])
def test_the_server_and_its_models_are_services(server: Server, service: str) -> None:
    assert check(server, service) == SERVING


def test_a_model_that_is_unknown_is_not_found(server: Server) -> None:
    assert check(server, "none") == "NOT_FOUND"


def test_the_health_of_the_server_is_open_and_that_of_models_needs_a_token(guarded: Server) -> None:
    for service in ("", SERVICE):
        assert check(guarded, service) == SERVING
    for service in (NAME, "none"):
        assert check(guarded, service) == "UNAUTHENTICATED"
        assert check(guarded, service, (("authorization", "Bearer another-token-of-it"),)) == "UNAUTHENTICATED"
    assert check(guarded, NAME, AUTHORIZED) == SERVING
    assert check(guarded, "none", AUTHORIZED) == "NOT_FOUND"


def test_health_is_answered_by_a_full_server_and_counted(exported: Path, tmp_path: Path) -> None:
    example, gate = make_example(exported / "server"), tmp_path / "gate"
    with serving(exported / "server", "--max-requests", 1, before=held(gate)) as server:
        gate.touch()
        busy = threading.Thread(target=ask_http, args=(server, example.clip))
        busy.start()
        while not server.value("lcve_pending_requests"):
            pass
        assert check(server, "") == SERVING
        gate.unlink()
        busy.join()
        assert server.wait_for("request answered", call="HealthCheck")["code"] == "OK"


def test_a_watch_tells_of_the_shutdown_and_does_not_delay_it(exported: Path) -> None:
    example = make_example(exported / "server")
    with serving(exported / "server", "--grace", 600, before=slow(0.5)) as server, channel_to(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watched = {
            service: stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=120)
            for service in ("", NAME, "none")
        }
        first = {service: next(answers).status for service, answers in watched.items()}
        assert first == {"": SERVING, NAME: SERVING, "none": UNKNOWN}
        busy = threading.Thread(target=ask_http, args=(server, example.clip))
        busy.start()
        while not server.value("lcve_pending_requests"):
            pass
        server.signal(signal.SIGTERM)
        assert [answer.status for answer in watched[""]] == [NOT_SERVING]
        assert [answer.status for answer in watched[NAME]] == [NOT_SERVING]
        assert not [*watched["none"]]
        assert server.wait() == 0
        busy.join()


def test_watches_are_bounded(server: Server) -> None:
    with channel_to(server) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(), timeout=60) for _ in range(64)]
        assert {next(watch).status for watch in watches} == {SERVING}
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Watch(health_pb2.HealthCheckRequest(), timeout=20))
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert check(server, "") == SERVING
        for watch in watches:
            watch.cancel()


def test_a_client_without_stubs_calls_the_server_by_reflection(server: Server) -> None:
    """As grpcurl does it: services, messages and methods come from the server."""
    with channel_to(server) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} < set(database.get_services())
        method = descriptor_pool.DescriptorPool(database).FindServiceByName(SERVICE).FindMethodByName("ModelReady")
        ask, answer = (message_factory.GetMessageClass(kind) for kind in (method.input_type, method.output_type))
        call = channel.unary_unary(
            f"/{SERVICE}/ModelReady", request_serializer=ask.SerializeToString, response_deserializer=answer.FromString
        )
        assert call(ask(name=NAME), timeout=20).ready
        assert not call(ask(name="none"), timeout=20).ready


def reflect(server: Server, request: Any, metadata: Any = None) -> Any:
    """The first answer, or the name of the code of an error."""
    with channel_to(server) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        try:
            return next(stub.ServerReflectionInfo(iter([request]), metadata=metadata, timeout=20))
        except grpc.RpcError as error:
            return error.code().name


def test_reflection_needs_a_token(guarded: Server) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    assert reflect(guarded, request) == "UNAUTHENTICATED"
    services = reflect(guarded, request, AUTHORIZED).list_services_response.service
    assert SERVICE in {service.name for service in services}


def test_a_large_request_for_reflection_is_not_echoed(server: Server) -> None:
    assert reflect(server, reflection_pb2.ServerReflectionRequest(file_by_filename="x" * 2**20)) == "RESOURCE_EXHAUSTED"
    missing = reflect(server, reflection_pb2.ServerReflectionRequest(file_by_filename="none.proto"))
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
