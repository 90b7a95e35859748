"""Parts of the server on their own: access control, versions on disk, HTTP bodies."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lcve_deploy.clips import Binding, Layout
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
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.protocol.binding import binding_from_parameters, binding_to_parameters
from lcve_deploy.serving import access as access_module
from lcve_deploy.serving.access import Access, Client, TokenFileWarning, read_tokens
from lcve_deploy.serving.codes import client_message, code_of
from lcve_deploy.serving.http.messages import from_body, parse_object, split_body
from lcve_deploy.serving.models.versions import find_versions, parse_source, require_distinct
from lcve_deploy.serving.settings import Limits
from lcve_deploy.serving.sizes import max_message_bytes
from lcve_deploy.serving.state import ServerState

BINDING = Binding(
    scheme="lcve-1",
    key_id="0f" * 16,
    salt="a0" * 16,
    geometry=ClipGeometry.parse("8x32x32x3/2x8x8"),
    layout=Layout.CUBES,
)


def test_models_of_larger_clips_than_grpc_accepts_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    sides = [32]

    class Growing:
        names = ("actions",)

        def versions(self, name: str) -> dict[int, Any]:
            model = SimpleNamespace(packed=False, input=SimpleNamespace(shape=(None, 64, sides[0] ** 2)))
            return {1: SimpleNamespace(spec=model, max_batch=8)}

        async def refresh(self, name: str | None = None, *, force: bool = False) -> None:
            sides.append(sides.pop() * 2)

    async def grow() -> int:
        parts = {name: Mock() for name in ("regions", "access", "web", "metrics")}
        state = ServerState(registry=Growing(), limits=Limits(), **parts)  # type: ignore[arg-type]
        await state.refresh()  # gRPC does not listen yet
        state.grpc_bytes = accepted = max_message_bytes(state.registry, state.limits)
        for _ in range(4):  # the last two are above the limit of all requests
            await state.refresh()
        return accepted

    accepted = asyncio.run(grow())
    lines = [vars(record) for record in caplog.records if "until the server is restarted" in record.message]
    assert [(line["accepted"], line["bytes"] // 2**20) for line in lines] == [(accepted, size) for size in (9, 33, 64)]


@pytest.mark.parametrize(
    ("error", "grpc", "http"),
    [
        (UnknownModelError("x"), "NOT_FOUND", 404),
        (TooLargeError("x"), "RESOURCE_EXHAUSTED", 413),
        (RequestError("x"), "INVALID_ARGUMENT", 400),
        (MismatchError("x"), "INVALID_ARGUMENT", 400),
        (DeniedError("x"), "UNAUTHENTICATED", 401),
        (RateError("x"), "RESOURCE_EXHAUSTED", 429),
        (UnavailableError("x"), "UNAVAILABLE", 503),
        (DeadlineError("x"), "DEADLINE_EXCEEDED", 504),
        (SessionError("x"), "INTERNAL", 500),
        (KeyError("x"), "INTERNAL", 500),
    ],
)
def test_an_error_has_one_name_on_both_protocols(error: Exception, grpc: str, http: int) -> None:
    assert (code_of(error).grpc, code_of(error).http) == (grpc, http)


def test_an_unforeseen_error_tells_a_client_nothing() -> None:
    assert "secret" not in client_message(KeyError("secret"))
    assert client_message(LcveError("what", hint="how")) == "what (how)"


def test_a_binding_travels_as_parameters() -> None:
    parameters = binding_to_parameters(BINDING)
    assert binding_from_parameters({**parameters, "timeout": 5}) == BINDING
    assert binding_from_parameters({"timeout": 5}) is None
    for name in parameters:
        with pytest.raises(RequestError, match=f"lacks {name}"):
            binding_from_parameters({k: v for k, v in parameters.items() if k != name})
        with pytest.raises(RequestError, match="the binding in the parameters is invalid"):
            binding_from_parameters(
                {**parameters, name: "rubbish"} if name != "lcve_scheme" else {**parameters, "lcve_salt": 5}
            )


TOKENS = "# clients\n\ncamera-7 0123456789abcdef\nroom@home\tfedcba9876543210\n"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(TOKENS)
    path.chmod(0o600)
    return path


def test_a_token_names_its_client(token_file: Path) -> None:
    access = Access(read_tokens(token_file), 0)
    assert access.authenticate("Bearer 0123456789abcdef", "1.2.3.4") == Client(name="camera-7")
    assert access.authenticate("bearer fedcba9876543210", "1.2.3.4") == Client(name="room@home")
    for wrong in (None, "", "0123456789abcdef", "Basic 0123456789abcdef", "Bearer ", "Bearer 0123456789abcdeF"):
        with pytest.raises(DeniedError) as denied:
            access.authenticate(wrong, "1.2.3.4")
        assert "0123456789abcde" not in str(denied.value)
    assert Access(None, 0).authenticate(None, "1.2.3.4") == Client(name="1.2.3.4")


def test_a_token_may_be_limited_to_keys(token_file: Path) -> None:
    one, two = "1" * 32, "2" * 32
    token_file.write_text(f"edge 0123456789abcdef {one}\t{two}\nall fedcba9876543210\n")
    access = Access(read_tokens(token_file), 0)
    edge = access.authenticate("Bearer 0123456789abcdef", "1.2.3.4")
    assert edge == Client(name="edge", keys=frozenset({one, two}))
    assert access.authenticate("Bearer fedcba9876543210", "1.2.3.4").keys is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# none\n",
        "camera-7\n",
        "camera-7 short\n",
        "a b c\n",
        f"a 0123456789abcdef {'1' * 31}\n",
        "a 0123456789abcdef all\n",
        TOKENS + "other 0123456789abcdef\n",
        "\xff\xfe\x00",
    ],
)
def test_an_invalid_token_file_is_refused_without_showing_it(token_file: Path, text: str) -> None:
    token_file.write_text(text)
    with pytest.raises(RequestError) as refused:
        read_tokens(token_file)
    assert "0123456789abcdef" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_a_token_file_that_everyone_can_read_is_warned_of(token_file: Path) -> None:
    token_file.chmod(0o644)
    with pytest.warns(TokenFileWarning, match="chmod 600"):
        read_tokens(token_file)


def test_a_rate_holds_for_each_client_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("lcve_deploy.serving.access.time.monotonic", lambda: now)
    access = Access(None, 2.0)

    def granted(client: str) -> int:
        count = 0
        try:
            while count < 10:
                access.count_request(client)
                count += 1
        except RateError:
            pass
        return count

    assert granted("a") == 2
    assert granted("a") == 0
    assert granted("b") == 2
    now += 0.5
    assert granted("a") == 1
    now += 1000
    assert granted("a") == 2


def test_access_control_forgets_clients_instead_of_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_MAX_CLIENTS", 5)
    access = Access(None, 1.0)
    for i in range(20):
        access.count_request(str(i))
    assert len(access._buckets) == 5


def manifest_in(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(text)
    return folder


def test_versions_are_the_folders_named_by_numbers(tmp_path: Path) -> None:
    for name in ("1", "2", "10", "007", "x", ".11.part", "-3"):
        manifest_in(tmp_path / "model" / name, name)
    (tmp_path / "model/12").mkdir()
    (tmp_path / "model/13").mkdir()
    os.mkfifo(tmp_path / "model/13/manifest.json")
    found = find_versions(tmp_path / "model")
    assert sorted(found) == [1, 2, 10]
    assert len({version.digest for version in found.values()}) == 3
    assert find_versions(tmp_path / "nothing") == {}
    single = find_versions(manifest_in(tmp_path / "server"))
    assert [(v.number, v.folder.name) for v in single.values()] == [(1, "server")]


def test_a_models_name_is_given_or_that_of_its_folder(tmp_path: Path) -> None:
    assert parse_source(f"actions={tmp_path}").name == "actions"
    assert parse_source("some/service/server").name == "service"
    assert parse_source("some/service-2").name == "service-2"
    for wrong in ("=x", "a b=x", "a/b=x", f"{'x' * 200}=x", "/", "../x y/server"):
        with pytest.raises(RequestError, match="a model's name"):
            parse_source(wrong)
    with pytest.raises(RequestError, match="two models"):
        require_distinct([parse_source("a/one/server"), parse_source("b/one/server")])


def body(header: Any, raw: bytes = b"", length: str | None = "") -> tuple[Any, bool]:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    front, back = split_body(memoryview(text + raw), str(len(text)) if length == "" else length, 1 << 20)
    return from_body(parse_object(front), back, "m", "")


def test_a_body_is_json_and_then_the_bytes_of_its_tensors() -> None:
    tensors = [
        {"name": name, "datatype": "UINT8", "shape": [1, 3], "parameters": {"binary_data_size": 3}} for name in "ab"
    ]
    request, binary = body(
        {
            "id": "7",
            "inputs": tensors,
            "outputs": [{"name": "logits", "parameters": {"binary_data": True}}],
            "parameters": {"timeout": 1500000, **binding_to_parameters(BINDING)},
        },
        b"abcdef",
    )
    assert [bytes(tensor.data) for tensor in request.inputs] == [b"abc", b"def"]
    assert (request.id, request.timeout, request.binding, binary) == ("7", 1.5, BINDING, False)
    assert request.outputs[0].binary


TENSOR = {"name": "clips", "datatype": "UINT8", "shape": [1, 3]}
BINARY = {**TENSOR, "parameters": {"binary_data_size": 3}}


@pytest.mark.parametrize(
    ("header", "raw"),
    [
        (b"{", b""),
        (b"[]", b""),
        (b"null", b""),
        (b"[" * 100_000, b""),
        (b'{"inputs": ' * 50_000, b""),
        ({"inputs": {}}, b""),
        ({"inputs": [1]}, b""),
        ({"inputs": [{"shape": [1]}]}, b""),
        ({"inputs": [{"name": 5, "shape": [1]}]}, b""),
        ({"inputs": [{"name": "clips", "data": [1]}]}, b""),
        ({"inputs": [{**TENSOR, "shape": [1, -3], "data": []}]}, b""),
        ({"inputs": [{**TENSOR, "shape": [1, True], "data": []}]}, b""),
        ({"inputs": [{**TENSOR, "shape": [2**70], "data": []}]}, b""),
        ({"inputs": [{**TENSOR, "shape": "13"}]}, b""),
        ({"inputs": [TENSOR]}, b""),
        ({"inputs": [{**TENSOR, "data": "abc"}]}, b""),
        ({"inputs": [{**TENSOR, "parameters": []}]}, b""),
        ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": "3"}}]}, b"abc"),
        ({"inputs": [{**TENSOR, "parameters": {"binary_data_size": -3}}]}, b"abc"),
        ({"inputs": [BINARY]}, b"ab"),
        ({"inputs": [BINARY]}, b"abcd"),
        ({"inputs": [BINARY, BINARY]}, b"abcde"),
        ({"inputs": [BINARY], "id": 7}, b"abc"),
        ({"inputs": [BINARY], "outputs": [{}]}, b"abc"),
        ({"inputs": [BINARY], "outputs": [{"name": "logits", "parameters": {"classification": 3}}]}, b"abc"),
        ({"inputs": [BINARY], "parameters": {"timeout": -1}}, b"abc"),
        ({"inputs": [BINARY], "parameters": {"timeout": 1.5}}, b"abc"),
        ({"inputs": [BINARY], "parameters": {"lcve_key_id": "00"}}, b"abc"),
        ({"inputs": [{**TENSOR, "parameters": {"shared_memory_region": "r"}}]}, b""),
    ],
)
def test_an_invalid_body_is_refused(header: Any, raw: bytes) -> None:
    with pytest.raises(RequestError):
        body(header, raw)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "99999", "", " 5", "²", "1" * 5000])
def test_a_length_of_json_that_cannot_be_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        split_body(memoryview(b"{}"), length, 100)


def test_long_json_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLargeError, match="at most 100 bytes of JSON"):
        split_body(memoryview(b" " * 101), None, 100)


@given(st.binary(max_size=200), st.text(max_size=5))
def test_any_bytes_are_read_or_refused(data: bytes, length: str) -> None:
    try:
        text, raw = split_body(memoryview(data), length, 100)
        from_body(parse_object(text), raw, "m", "")
    except RequestError:
        pass


def test_numbers_of_json_become_bytes_or_are_refused() -> None:
    from lcve_deploy.serving.inference import _json_values

    assert _json_values([[0, 255], [1, 2]]).tolist() == [0, 255, 1, 2]
    every: list[Any] = [[256], [-1], [1.0], [True], ["1"], [None], [[1], [2, 3]], [{}], [2**80]]
    for wrong in every:
        with pytest.raises(RequestError):
            _json_values(wrong)
    assert _json_values(np.arange(256).tolist()).dtype == np.uint8
