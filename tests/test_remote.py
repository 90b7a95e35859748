"""A session with servers: what it sends, what it believes, when it asks again, and what it leaves behind."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import ipaddress
import json
import logging
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Binding, Client, EncryptedClip, Layout, RemoteOptions, RemoteSession, SecurityKey
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
from lcve_deploy.remote import Address, is_address
from lcve_deploy.remote.endpoints import Endpoint, Endpoints
from lcve_deploy.remote.faults import grpc_fault, http_fault
from lcve_deploy.remote.over_grpc import GrpcTransport
from lcve_deploy.remote.over_http import HttpTransport
from lcve_deploy.remote.retrying import persist
from lcve_deploy.remote.token import PlainTokenWarning, Token
from lcve_deploy.remote.transport import LogitsReply

from . import fake_server as fake
from .conftest import GEOMETRY, ORACLE, run_error, run_lcve, run_ok
from .fake_server import GrpcServer, HttpServer, Model, Pem, logits_of

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all

BINDING = Binding(scheme="lcve-1", key_id="a" * 32, salt="b" * 32, geometry=GEOMETRY, layout=Layout.CUBES)
QUICK = RemoteOptions(deadline=30, retries=2, pause=0.001, rest=0.001)
TOKEN = "mF_9.B5f-4.1JqM~planted/token+that=="
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")

Server = GrpcServer | HttpServer


@pytest.fixture(autouse=True)
def _no_token_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LCVE_TOKEN", raising=False)


def clips(count: int = 1, *, seed: int = 0, binding: Binding = BINDING) -> EncryptedClip:
    shape = (count, *binding.layout.shape(binding.geometry))
    return EncryptedClip(values=np.random.default_rng(seed).integers(0, 256, shape, np.uint8), binding=binding)


def other(**changes: Any) -> Binding:
    return dataclasses.replace(BINDING, **changes)


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


def joined(*servers: Server) -> str:
    return f"{servers[0].scheme}://{','.join(server.endpoint for server in servers)}/{servers[0].model.name}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# Addresses and options


@pytest.mark.parametrize(
    ("text", "endpoints", "model", "version"),
    [
        ("grpc://localhost/digits", ("localhost:8001",), "digits", ""),
        ("grpcs://one:1,two:2/digits/3", ("one:1", "two:2"), "digits", "3"),
        ("http://10.0.0.1/m.v-2_x/", ("10.0.0.1:8000",), "m.v-2_x", ""),
        ("https://[::1]:9/m", ("[::1]:9",), "m", ""),
        ("grpc://a:1,a:1/m", ("a:1",), "m", ""),
    ],
)
def test_an_address_names_endpoints_model_and_version(
    text: str, endpoints: tuple[str, ...], model: str, version: str
) -> None:
    address = Address.parse(text)
    assert (address.endpoints, address.model, address.version) == (endpoints, model, version)
    assert Address.parse(str(address)) == address
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a/m",
        "grpc://a:1",
        "grpc://a:1/",
        "grpc:///m",
        "grpc://a:0/m",
        "grpc://a:65536/m",
        "grpc://a:x/m",
        "grpc://a:1,/m",
        "grpc://user@a:1/m",
        "grpc://a:1/m/0",
        "grpc://a:1/m/latest",
        "grpc://a:1/m/1/x",
        "http://a:1/m?x=1",
        "http://a b:1/m",
        "grpc://a:1/m\n",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        Address.parse(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": 0},
        {"deadline": float("nan")},
        {"deadline": float("inf")},
        {"retries": -1},
        {"pause": -1},
        {"tls_cert": Path("a.pem")},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|together"):
        RemoteOptions(**wrong)


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("grpc://a:1/m", RemoteOptions(tls_ca=Path("ca.pem"))),
        ("grpc://a:1/m", RemoteOptions(shared_memory=True)),
        ("http://localhost:1/m", RemoteOptions(shared_memory=True)),
    ],
)
def test_options_that_an_address_cannot_have_are_refused(address: str, options: RemoteOptions) -> None:
    with pytest.raises(RequestError) as caught:
        RemoteSession(address, BINDING, options)
    assert caught.value.hint


# What is sent and received


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
    server, clip = start(Model(binding, largest_batch=0)), clips(20, binding=binding)
    with RemoteSession(server.address, binding, QUICK) as session:
        np.testing.assert_array_equal(session.run(clip), logits_of(clip.values))
        assert session.connect().largest_batch is None
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
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda *given, **more: opened.append(1) or real(*given, **more))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for _ in range(5):
            session.run(clips())
    assert len(opened) == 1


# What must hold before a clip is sent


@pytest.mark.parametrize(
    ("field", "value"),
    [("key_id", "c" * 32), ("salt", "c" * 32), ("layout", Layout.VIDEO), ("scheme", "lcve-2")],
)
def test_a_server_with_another_binding_gets_no_clip(start: Callable[..., Server], field: str, value: Any) -> None:
    server = start(Model(other(**{field: value})))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        for ask in (session.connect, lambda: session.run(clips())):
            with pytest.raises(MismatchError, match=field.replace("_", " ")):
                ask()
    assert server.model.infers == []


def test_a_clip_of_another_binding_is_refused_without_a_server() -> None:
    with RemoteSession("grpc://localhost:1/m", BINDING, QUICK) as session:
        with pytest.raises(MismatchError, match="key id"):
            session.run(clips(binding=other(key_id="c" * 32)))
        for values in (np.zeros((0, *BINDING.layout.shape(GEOMETRY)), np.uint8), clips().values[0], clips().values / 2):
            with pytest.raises(ValueError, match="expected"):
                session.run(EncryptedClip(values=values, binding=BINDING))


def test_a_server_that_names_no_binding_is_compared_by_its_shapes(start: Callable[..., Server]) -> None:
    server = start(Model(BINDING, bound=False))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert session.connect().bound is False
        session.run(clips())
    video = other(layout=Layout.VIDEO)
    with RemoteSession(server.address, video, QUICK) as session, pytest.raises(MismatchError, match="inputs"):
        session.run(clips(binding=video))


def _set(path: str, value: Any) -> fake.Change:
    """Sets ``inputs.0.name`` and the like."""

    def change(message: Any) -> None:
        *way, last = path.split(".")
        for part in way:
            message = message[int(part)] if part.isdigit() else getattr(message, part)
        if last == "add":
            message.add().CopyFrom(message[0])
        elif last == "clear":
            del message[:]
        elif last.isdigit():
            message[int(last)] = value
        else:
            setattr(message, last, value)

    return change


@pytest.mark.parametrize(
    ("which", "path", "value"),
    [
        ("metadata", "name", "letters"),
        ("metadata", "inputs.0.name", "images"),
        ("metadata", "inputs.0.datatype", "FP32"),
        ("metadata", "inputs.0.shape.1", 7),
        ("metadata", "inputs.add", None),
        ("metadata", "inputs.clear", None),
        ("metadata", "outputs.0.name", "scores"),
        ("metadata", "outputs.0.datatype", "FP64"),
        ("metadata", "outputs.0.shape.1", -1),
        ("metadata", "outputs.0.shape.clear", None),
        ("metadata", "outputs.add", None),
        ("metadata", "outputs.clear", None),
        ("config", "name", "letters"),
        ("config", "max_batch_size", 0),
        ("config", "max_batch_size", -1),
        ("config", "input.0.data_type", 11),
        ("config", "input.0.data_type", 99),
        ("config", "input.0.dims.0", 7),
        ("config", "output.0.dims.0", 4),
        ("config", "output.clear", None),
    ],
)
def test_a_server_with_another_model_gets_no_clip(
    start: Callable[..., Server], which: str, path: str, value: Any
) -> None:
    server = start()
    setattr(server.model, f"change_{which}", _set(path, value))
    with (
        RemoteSession(server.address, BINDING, QUICK) as session,
        pytest.raises((MismatchError, SessionError)) as error,
    ):
        session.run(clips())
    assert server.model.infers == []
    assert server.model.described == 1
    assert "127.0.0.1" in str(error.value)


def test_half_a_binding_is_none(start: Callable[..., Server]) -> None:
    server = start()
    server.model.change_config = lambda config: config.parameters.pop("lcve_salt")
    with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(MismatchError, match="lcve_salt"):
        session.run(clips())


# What is not believed


RUBBISH = {
    "another batch": _set("outputs.0.shape.0", 2),
    "other classes": _set("outputs.0.shape.1", 4),
    "negative": _set("outputs.0.shape.0", -1),
    "no shape": _set("outputs.0.shape.clear", None),
    "another type": _set("outputs.0.datatype", "FP64"),
    "an unknown type": _set("outputs.0.datatype", "FP31"),
    "another name": _set("outputs.0.name", "scores"),
    "two outputs": _set("outputs.add", None),
    "no output": _set("outputs.clear", None),
    "truncated": lambda response: _set("raw_output_contents.0", response.raw_output_contents[0][:-1])(response),
    "too short": lambda response: _set("raw_output_contents.0", response.raw_output_contents[0][:-4])(response),
    "too long": lambda response: _set("raw_output_contents.0", response.raw_output_contents[0] + b"1234")(response),
    "empty": _set("raw_output_contents.0", b""),
    "no bytes": _set("raw_output_contents.clear", None),
    "another model": _set("model_name", "letters"),
    "another version": _set("model_version", "7"),
}


@pytest.mark.parametrize("change", RUBBISH.values(), ids=RUBBISH)
def test_an_answer_that_is_not_the_logits_is_an_error_and_not_asked_again(server: Server, change: fake.Change) -> None:
    server.model.next.append(change)
    with RemoteSession(server.address, BINDING, QUICK) as session:
        with pytest.raises(SessionError, match=r"127\.0\.0\.1"):
            session.run(clips())
        assert len(server.model.infers) == 1
        session.run(clips())


def test_what_is_not_finite_is_for_the_reader(server: Server) -> None:
    nan = np.full((1, fake.CLASSES), np.nan, np.float32).tobytes()
    server.model.next.append(_set("raw_output_contents.0", nan))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert np.isnan(session.run(clips())).all()


class Raw:
    """A listener that answers every request with fixed bytes."""

    def __init__(self, answer: bytes, then: Callable[[socket.socket], None] = lambda connection: None) -> None:
        self._then = then
        self._answer, self._listener = answer, socket.create_server(("127.0.0.1", 0))
        self.port, self.asked = self._listener.getsockname()[1], 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                self.asked += bool(connection.recv(65536))
                connection.sendall(self._answer)
                self._then(connection)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


def _http(body: bytes, *headers: str) -> bytes:
    lines = ("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", UnavailableError),
        (b"SSH-2.0-OpenSSH_9\r\n", SessionError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", UnavailableError),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}", UnavailableError),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n", SessionError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b" " * 9_000_000, SessionError),
        (_http(b""), SessionError),
        (_http(b"[" * 100_000), SessionError),
        (_http(b'{"name": 3}'), SessionError),
        (_http(b"[]"), SessionError),
        (_http(b'"name"'), SessionError),
        (_http(b"\xff\xfe"), SessionError),
        (_http(b'{"inputs": {"a": 1}}'), SessionError),
        (_http(b"{}", "Content-Encoding: gzip"), SessionError),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n", RequestError),
        (b"HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}", DeniedError),
        (b"HTTP/1.1 500 No\r\nContent-Length: 8\r\n\r\n<html>\x1b[", SessionError),
    ],
)
def test_a_listener_that_speaks_something_else_is_one_clear_error(answer: bytes, kind: type[LcveError]) -> None:
    with Raw(answer) as raw, RemoteSession(f"http://127.0.0.1:{raw.port}/m", BINDING, QUICK) as session:
        with pytest.raises(LcveError) as caught:
            session.run(clips())
        assert type(caught.value) is kind, caught.value
        assert "127.0.0.1" in str(caught.value)
        assert str(caught.value).isprintable()
        assert raw.asked == (3 if kind is UnavailableError else 1)


def test_a_listener_that_does_not_speak_grpc_is_one_clear_error() -> None:
    with Raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as raw:
        address, options = f"grpc://127.0.0.1:{raw.port}/m", dataclasses.replace(QUICK, deadline=3)
        expected = (UnavailableError, SessionError, DeadlineError)
        with RemoteSession(address, BINDING, options) as session, pytest.raises(expected):
            session.run(clips())


def _http_infer_answer(head: object, raw: bytes, length: str | None = None) -> bytes:
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return _http(text + raw, f"Inference-Header-Content-Length: {length or len(text)}")


_LOGITS = {"name": "logits", "datatype": "FP32", "shape": [1, 5]}


@pytest.mark.parametrize(
    "answer",
    [
        _http(b"{}"),
        _http(b"[" * 100_000),
        _http(json.dumps({"model_name": "digits", "outputs": [_LOGITS]}).encode()),
        _http(json.dumps({"model_name": "digits", "outputs": [{**_LOGITS, "data": ["a"] * 5}]}).encode()),
        _http(json.dumps({"model_name": "digits", "outputs": [{**_LOGITS, "data": [[]]}]}).encode()),
        _http(
            json.dumps(
                {"model_name": "digits", "outputs": [{**_LOGITS, "parameters": {"binary_data_size": 20}}]}
            ).encode()
        ),
        _http_infer_answer(b"\xff\xff", b""),
        _http_infer_answer({"model_name": "digits", "outputs": 3}, b"12345"),
        _http_infer_answer({"model_name": "digits", "outputs": [[]]}, b"12345"),
        _http_infer_answer({"model_name": "digits", "outputs": [{**_LOGITS, "shape": "5"}]}, b""),
        _http_infer_answer({"outputs": [{**_LOGITS, "parameters": {"binary_data_size": 20}}]}, bytes(20)),
        *(
            _http_infer_answer(
                {"model_name": "digits", "outputs": [{**_LOGITS, "parameters": {"binary_data_size": size}}]}, bytes(20)
            )
            for size in tuple[Any, ...]((0, -1, 19, "20", None, [], 20.5))
        ),
        _http_infer_answer({"model_name": "digits", "outputs": []}, b"", "999999"),
        _http_infer_answer({"model_name": "digits", "outputs": []}, b"", "-1"),
        _http_infer_answer({"model_name": "digits", "outputs": []}, b"", "9" * 5000),
    ],
)
def test_bodies_that_are_no_answer_are_one_clear_error(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    from lcve_deploy.remote.contract import RemoteModel
    from lcve_deploy.remote.endpoints import Endpoint

    model = RemoteModel(endpoint="x", name="digits", versions=("1",), classes=5, largest_batch=8, bound=True)
    monkeypatch.setattr(Endpoint, "model", lambda self, seconds: model)
    with Raw(answer) as raw, RemoteSession(f"http://127.0.0.1:{raw.port}/digits", BINDING, QUICK) as session:
        with pytest.raises(SessionError):
            session.run(clips())
        assert raw.asked == 1


# Asking again


ABORTED = fake.Refusal("ABORTED", 502, "another one came between")
CANCELLED = fake.Refusal("CANCELLED", 503, "given up")

STATUSES: dict[str, type[LcveError]] = {
    **dict.fromkeys(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"), RequestError),
    **dict.fromkeys(("ALREADY_EXISTS", "UNIMPLEMENTED"), RequestError),
    "NOT_FOUND": UnknownModelError,
    "RESOURCE_EXHAUSTED": RateError,
    **dict.fromkeys(("UNAUTHENTICATED", "PERMISSION_DENIED"), DeniedError),
    **dict.fromkeys(("UNAVAILABLE", "ABORTED", "CANCELLED"), UnavailableError),
    "DEADLINE_EXCEEDED": DeadlineError,
    **dict.fromkeys(("INTERNAL", "UNKNOWN", "DATA_LOSS", "", "OF_TOMORROW"), SessionError),
}


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
            _but(session, deadline=0.4).run(clips())
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
            _but(session, retries=1).run(clips())
        again = start(Model(other(salt="c" * 32)), port=server.port)
        with pytest.raises(MismatchError):
            session.run(clips())
        assert again.model.infers == []


def _but(session: RemoteSession, **options: Any) -> RemoteSession:
    """The same session, less patient."""
    changed = copy.copy(session)
    changed._options = dataclasses.replace(session._options, **options)
    return changed


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
    options = RemoteOptions(deadline=600, retries=1000, pause=300, longest_pause=300)
    session = RemoteSession(f"grpc://127.0.0.1:{free_port()}/m", BINDING, options)
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(session.run, clips())
        with pytest.raises(TimeoutError):
            future.result(timeout=0.3)
        session.close()
        with pytest.raises(SessionError, match="closed"):
            future.result(timeout=20)


# Several endpoints


def test_another_endpoint_answers_at_once_for_one_that_is_away(start: Callable[..., Server]) -> None:
    first, second = start(), start()
    first.stop()
    options = RemoteOptions(deadline=30, retries=1, pause=1000, longest_pause=1000, rest=1000)
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
            _but(session, deadline=0.4).run(clips())
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
    first, second = start(Model(BINDING, largest_batch=4)), start(Model(BINDING, largest_batch=3))
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
    options = RemoteOptions(retries=8, pause=1, longest_pause=10, deadline=1000)
    clock, asked, answer = _persisted(options, 1, [UnavailableError("x")] * 8)
    assert answer == "answer"
    assert len(asked) == 9
    for length, most in zip(clock.pauses, (1, 2, 4, 8, 10, 10, 10, 10), strict=True):
        assert most / 2 <= length <= most


def test_pauses_differ_from_client_to_client() -> None:
    """Else clients whom a server turned away together would come back together."""
    options = RemoteOptions(retries=1, pause=1, longest_pause=1, deadline=1000)
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


class Slow:
    """A way to a server each of whose answers takes three seconds; what each was given."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.given, self.versions = clock, list[tuple[str, float]](), ["1"]

    def describe(self, seconds: float) -> tuple[Any, Any]:
        self._take("describe", seconds)
        model = Model(BINDING, versions=self.versions)
        return model.metadata(), model.config()

    def infer(self, request: Any, *, classes: int, seconds: float) -> Any:
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
    options = RemoteOptions(retries=1000, pause=1, longest_pause=1, deadline=10)
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


# Sizes


def test_too_many_bytes_for_the_server_are_said_to_be() -> None:
    server = GrpcServer(Model(BINDING), largest=1000)
    with server, RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(TooLargeError) as caught:
        session.run(clips())
    assert "limit" in caught.value.hint


def test_an_answer_without_end_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for room in ("over_grpc", "over_http"):
        monkeypatch.setattr(f"lcve_deploy.remote.{room}.MAX_RESPONSE_BYTES", 2000)
    server.model.next.append(_set("raw_output_contents.0", bytes(5000)))
    with (
        RemoteSession(server.address, BINDING, QUICK) as session,
        pytest.raises(SessionError, match=r"more than 2000 bytes|message larger than max \(\d+ vs\. 2000\)"),
    ):
        session.run(clips())
    assert len(server.model.infers) == 1


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("SERVER: Received message larger than max (5000000 vs. 4194304)", TooLargeError),
        ("CLIENT: Received message larger than max (5 vs. 4)", SessionError),
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


# Tokens


def _token_file(folder: Path, text: str = f"{TOKEN}\n") -> Path:
    path = folder / "token"
    path.write_text(text)
    return path


def test_a_token_is_sent_with_every_request(
    start: Callable[..., Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(Model(BINDING, token=TOKEN))
    from_file = dataclasses.replace(QUICK, token_file=_token_file(tmp_path))
    with RemoteSession(server.address, BINDING, from_file) as session:
        session.run(clips())
    monkeypatch.setenv("LCVE_TOKEN", TOKEN)
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
    assert {headers["authorization"] for headers in server.model.seen_headers} == {f"Bearer {TOKEN}"}


def test_a_token_is_shown_nowhere(
    start: Callable[..., Server], tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not even where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    server = start(Model(BINDING, token=TOKEN[::-1]))
    options = dataclasses.replace(QUICK, token_file=_token_file(tmp_path))
    with RemoteSession(server.address, BINDING, options) as session:
        with pytest.raises(DeniedError, match=r"\[token\]") as caught:
            session.run(clips())
        shown = [repr(session), str(session), repr(options), repr(caught.value), caught.value.hint, repr(Token(TOKEN))]
        with pytest.raises(TypeError):
            pickle.dumps(session)
    assert pickle.loads(pickle.dumps(options)) == options  # noqa: S301
    with pytest.raises(TypeError, match="cannot be pickled"):
        copy.deepcopy(Token(TOKEN))
    shown += [caplog.text, *capfd.readouterr()]
    assert not any(TOKEN in text or TOKEN[4:20] in text for text in shown)


@pytest.mark.parametrize("text", ["", "\n", "two words", f"{TOKEN}\n{TOKEN}", "naïve", "a" * 9000])
def test_a_file_that_holds_no_token_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    options = RemoteOptions(token_file=_token_file(tmp_path, text))
    with pytest.raises(DeniedError, match="token") as caught:
        RemoteSession("grpc://localhost:1/m", BINDING, options)
    assert not text.strip() or text[:5] not in str(caught.value)


def test_a_token_without_tls_is_warned_of_but_on_this_machine(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    options = RemoteOptions(token_file=_token_file(tmp_path))
    RemoteSession("grpc://localhost:1,127.0.0.1:2/m", BINDING, options).close()
    RemoteSession("grpcs://example.org:1/m", BINDING, options).close()
    assert not [w for w in recwarn if w.category is PlainTokenWarning]
    with pytest.warns(PlainTokenWarning, match="without TLS"):
        RemoteSession("grpc://example.org:1/m", BINDING, options).close()


# TLS


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority of a test, and what it has signed."""

    folder: Path
    ca: Path
    server: Pem
    client: Pem


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder, now = tmp_path_factory.mktemp("authority"), datetime.datetime.now(datetime.UTC)

    def issue(name: str, issuer: tuple[Any, Any] | None) -> tuple[Any, Any]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        certificate = builder.sign(issuer[1] if issuer else key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.key").write_bytes(private)
        return certificate, key

    root = issue("ca", None)
    issue("stranger", None)
    for name in ("server", "client"):
        issue(name, root)
    pair = {name: Pem(folder / f"{name}.pem", folder / f"{name}.key") for name in ("server", "client")}
    return Authority(folder=folder, ca=folder / "ca.pem", server=pair["server"], client=pair["client"])


def _secure(server: Server) -> str:
    return server.address.replace("://", "s://", 1)


def test_tls_with_roots_of_ones_own(start: Callable[..., Server], authority: Authority) -> None:
    server = start(pem=authority.server)
    trusting = dataclasses.replace(QUICK, tls_ca=authority.ca)
    with RemoteSession(_secure(server), BINDING, trusting) as session:
        np.testing.assert_array_equal(session.run(clips()), logits_of(clips().values))
    for options in (QUICK, dataclasses.replace(QUICK, tls_ca=authority.folder / "stranger.pem")):
        with RemoteSession(_secure(server), BINDING, options) as session, pytest.raises(DeniedError) as caught:
            session.run(clips())
        assert caught.value.hint
    assert len(server.model.infers) == 1


def test_mutual_tls(start: Callable[..., Server], authority: Authority) -> None:
    server = start(pem=dataclasses.replace(authority.server, ca=authority.ca))
    known = RemoteOptions(
        **{
            **dataclasses.asdict(QUICK),
            "tls_ca": authority.ca,
            "tls_cert": authority.client.cert,
            "tls_key": authority.client.key,
        }
    )
    with RemoteSession(_secure(server), BINDING, known) as session:
        session.run(clips())
    nobody = dataclasses.replace(known, tls_cert=None, tls_key=None, deadline=5)
    with RemoteSession(_secure(server), BINDING, nobody) as session, pytest.raises((DeniedError, UnavailableError)):
        session.run(clips())
    assert len(server.model.infers) == 1


def test_files_that_are_no_certificates_are_refused_at_once(
    start: Callable[..., Server], authority: Authority, tmp_path: Path
) -> None:
    scheme = _secure(start()).partition(":")[0]
    (tmp_path / "rubbish.pem").write_text("rubbish")
    every: list[dict[str, Any]] = [
        {"tls_ca": tmp_path / "rubbish.pem"},
        {"tls_cert": authority.client.cert, "tls_key": authority.server.key},
        {"tls_cert": authority.client.cert, "tls_key": tmp_path / "rubbish.pem"},
    ]
    for changes in every:
        with pytest.raises(DeniedError):
            RemoteSession(f"{scheme}://localhost:1/m", BINDING, dataclasses.replace(QUICK, **changes))
    with pytest.raises(FileNotFoundError):
        RemoteSession(f"{scheme}://localhost:1/m", BINDING, dataclasses.replace(QUICK, tls_ca=tmp_path / "no.pem"))


def test_tls_where_there_is_none_is_an_error(server: Server) -> None:
    options = dataclasses.replace(QUICK, deadline=5)
    with RemoteSession(_secure(server), BINDING, options) as session, pytest.raises((DeniedError, UnavailableError)):
        session.run(clips())


# Shared memory


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
    [fake.FAILED, fake.AWAY, fake.LATE, _set("outputs.clear", None)],
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

    monkeypatch.setattr("lcve_deploy.remote.shared._require_room", full)
    with GrpcServer(Model(BINDING)) as server, RemoteSession(server.address, BINDING, SHARING) as session:
        session.run(clips())
        assert server.model.registered == 0


LEFT_OPEN = """
import sys
from tests import test_remote as tests
session = tests.RemoteSession(sys.argv[1], tests.BINDING, tests.SHARING)
session.run(tests.clips())
assert len(tests._regions()) == 1
"""


@LINUX
def test_a_program_that_does_not_close_leaves_no_region() -> None:
    with GrpcServer(Model(BINDING)) as server:
        command = [sys.executable, "-c", LEFT_OPEN, server.address]
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    assert "leaked" not in result.stderr
    assert not _regions()


# What it needs


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "onnx", "onnx_ir", "onnxruntime", "tensorrt", "openvino", "av"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Block())
from tests.test_remote import BINDING, QUICK, RemoteSession, clips
for address in sys.argv[1:]:
    with RemoteSession(address, BINDING, QUICK) as session:
        print(session.run(clips()).shape)
"""


def test_it_works_without_any_engine() -> None:
    with GrpcServer(Model(BINDING)) as one, HttpServer(Model(BINDING)) as two:
        command = [sys.executable, "-c", BLOCKED, one.address, two.address]
        result = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    assert result.stdout.split("\n")[:2] == ["(1, 5)", "(1, 5)"]


# The command line


@pytest.fixture(scope="module")
def served(exported: Path, key_file: Path) -> Binding:
    """Of the clips of the exported artifact; servers with it answer as a stand-in does."""
    return Client.open(exported / "client", SecurityKey.read(key_file)).settings.binding


def test_run_with_an_address_reads_the_servers_logits(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served))
    clip, sides = tmp_path / "clip.lcve", ("--key", key_file, "--client", exported / "client")
    run_ok("encrypt", ORACLE / "clip_8x32x32.npy", *sides, "-o", clip)
    shown = json.loads(run_ok("run", server.address, ORACLE / "clip_8x32x32.npy", *sides, "--json"))
    assert len(shown["predictions"]) == 5
    run_ok("run", server.address, clip, "--logits-out", tmp_path / "logits.npy")
    assert json.loads(run_ok("read", tmp_path / "logits.npy", *sides, "--json"))["predictions"] == shown["predictions"]
    assert json.loads(run_ok("run", server.address, clip, *sides, "--json"))["predictions"] == shown["predictions"]
    assert "position" in run_ok("run", server.address, clip)


def test_run_sends_views_one_by_one(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served))
    frames = tmp_path / "video.npy"
    np.save(frames, np.load(ORACLE / "clip_8x32x32.npy"))
    client = Client.open(exported / "client", SecurityKey.read(key_file))
    from lcve_deploy import ClipFile, PlainClip, Views, write_clip_file

    stack = client.encrypt(PlainClip(values=np.random.default_rng(0).integers(0, 256, (6, 8, 32, 32, 3), np.uint8)))
    write_clip_file(tmp_path / "clip.lcve", ClipFile(clip=stack, views=Views(temporal=3, spatial=2)))
    run_ok("run", server.address, tmp_path / "clip.lcve", "--logits-out", tmp_path / "logits.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "logits.npy"), logits_of(stack.values))
    assert len(server.model.infers) == 6


def test_errors_of_run_with_an_address(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    server = start(Model(served, token=TOKEN))
    clip, sides = ORACLE / "clip_8x32x32.npy", ("--key", key_file, "--client", exported / "client")
    for arguments, words in (
        ((*sides, "--engine", "fastest"), "--engine: for an artifact"),
        ((*sides, "--provider", "cpu"), "--provider: for an artifact"),
        ((*sides, "--threads", "2"), "--threads: for an artifact"),
        (sides[:2], "together"),
        ((), "encrypted clip"),
        ((*sides, "--tls-cert", "a.pem"), "together"),
        ((*sides, "--tls-ca", "a.pem"), "TLS"),
        ((*sides, "--token-file", tmp_path / "none"), "No such file"),
        (sides, "denied access"),
    ):
        error = run_error("run", server.address, clip, *arguments, "--logits-out", tmp_path / "out.npy")
        assert words in error
    for option in (("--deadline", "3"), ("--shared-memory",), ("--token-file", "t"), ("--client", "c")):
        assert f"{option[0]}: for the address" in run_error("run", exported, clip, "--key", key_file, *option)
    assert "not the address" in run_error("run", "grpc://localhost:1", clip, *sides)
    away = run_error("run", f"grpc://127.0.0.1:{free_port()}/m", clip, *sides, "--retries", "0")
    assert "not available" in away
    assert not (tmp_path / "out.npy").exists()
    assert server.model.infers == []


def test_a_pin_of_the_machine_is_no_error_with_an_address(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    """It is for the files of artifacts; named on the command line it is a mistake."""
    from lcve_deploy import SigningKey

    pin = tmp_path / "signing.pub"
    SigningKey.create().write(tmp_path / "signing.pem")
    server = start(Model(served))
    arguments = ("run", server.address, ORACLE / "clip_8x32x32.npy", "--key", key_file, "--client", exported / "client")
    if pin.exists():
        import click.testing

        from lcve_deploy.cli import lcve

        result = click.testing.CliRunner(env={"LCVE_SIGNED_BY": str(pin)}).invoke(lcve, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        assert "--signed-by: for an artifact" in run_error(*arguments, "--signed-by", pin)


def test_the_commands_without_a_key_load_no_key_room(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    from .test_boundaries import OPERATOR, key_rooms_in, loaded_after

    server, clip = start(Model(served)), tmp_path / "clip.lcve"
    run_lcve("encrypt", ORACLE / "clip_8x32x32.npy", "--key", key_file, "--client", exported / "client", "-o", clip)
    modules = loaded_after(OPERATOR, "run", server.address, clip)
    assert not key_rooms_in(modules)
    assert not modules & {"torch", "transformers", "onnxruntime", "cryptography", "av"}
