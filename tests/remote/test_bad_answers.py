"""What is not believed."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteSession
from lcve_deploy.errors import (
    DeadlineError,
    DeniedError,
    LcveError,
    RequestError,
    SessionError,
    UnavailableError,
)
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.remote.endpoints import Endpoint
from tests.remote.helpers import BINDING, QUICK, Raw, Server, clips, set_to
from tests.support import fake_server as fake

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all
RUBBISH = {
    "another batch": set_to("outputs.0.shape.0", 2),
    "other classes": set_to("outputs.0.shape.1", 4),
    "negative": set_to("outputs.0.shape.0", -1),
    "no shape": set_to("outputs.0.shape.clear", None),
    "another type": set_to("outputs.0.datatype", "FP64"),
    "an unknown type": set_to("outputs.0.datatype", "FP31"),
    "another name": set_to("outputs.0.name", "scores"),
    "two outputs": set_to("outputs.add", None),
    "no output": set_to("outputs.clear", None),
    "truncated": lambda response: set_to("raw_output_contents.0", response.raw_output_contents[0][:-1])(response),
    "too short": lambda response: set_to("raw_output_contents.0", response.raw_output_contents[0][:-4])(response),
    "too long": lambda response: set_to("raw_output_contents.0", response.raw_output_contents[0] + b"1234")(response),
    "empty": set_to("raw_output_contents.0", b""),
    "no bytes": set_to("raw_output_contents.clear", None),
    "another model": set_to("model_name", "letters"),
    "another version": set_to("model_version", "7"),
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
    server.model.next.append(set_to("raw_output_contents.0", nan))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        assert np.isnan(session.run(clips())).all()


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

    model = RemoteModel(
        endpoint="x", name="digits", versions=("1",), output=ModelOutput.logits(5), max_batch=8, bound=True
    )
    monkeypatch.setattr(Endpoint, "model", lambda self, seconds: model)
    with Raw(answer) as raw, RemoteSession(f"http://127.0.0.1:{raw.port}/digits", BINDING, QUICK) as session:
        with pytest.raises(SessionError):
            session.run(clips())
        assert raw.asked == 1
