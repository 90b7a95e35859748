"""Web pages: none may use a server unless the operator allows its origin, and none under another server's name."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from lcve_deploy.errors import ForbiddenError
from lcve_deploy.serving.settings import ServerSettings, WebAccess
from lcve_deploy.serving.web import WebPolicy
from tests.conftest import run_error
from tests.support.servers import (
    LENGTH,
    NAME,
    Example,
    Server,
    grpc_message,
    grpc_stub,
    http_body,
    make_example,
    serving,
)

APP = "https://app.example"
TOKEN = "page-0123456789abcdef"
INFER = f"/v2/models/{NAME}/infer"


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    """As it is by default: on loopback, without tokens."""
    with serving(exported / "server") as server:
        yield server


@pytest.fixture(scope="module")
def allowing(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"page {TOKEN}\n")
    tokens.chmod(0o600)
    allowed = ("--allow-origin", APP, "--allow-origin", "http://localhost:3000", "--allow-host", "lcve.internal")
    with serving(exported / "server", "--tokens", tokens, *allowed) as server:
        yield server


class Answer:
    """Status, headers in lower case and body of a raw response."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}


def ask(
    server: Server,
    method: str,
    path: str,
    *headers: str,
    body: bytes = b"",
    port: int | None = None,
    host: str | None = "127.0.0.1",
) -> Answer:
    """Send the bytes that a browser sends, and read until the server closes."""
    named = [] if host is None else [f"Host: {host}"]
    lines = [f"{method} {path} HTTP/1.1", *named, "Connection: close", *headers, f"Content-Length: {len(body)}"]
    with socket.create_connection((server.host, port or server.http or 0), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        with contextlib.suppress(ConnectionResetError):
            received = b""
            while part := connection.recv(65536):
                received += part
        return Answer(received)


def infer_lines(example: Example) -> tuple[list[str], bytes]:
    body, headers = http_body(example.clip)
    return [f"{name}: {value}" for name, value in headers.items() if name != "Content-Type"], body


def runs(server: Server) -> float:
    return server.value("lcve_clips_total")


NO_CORS = ("Content-Type: text/plain;charset=UTF-8", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Site: cross-site")


def test_a_page_of_another_origin_runs_nothing(server: Server, example: Example) -> None:
    """As ``fetch(url, {method: "POST", mode: "no-cors", body})`` sends it; JSON needs no preflight as text."""
    tensor = {"name": "clips", "datatype": "UINT8", "shape": list(example.clip.values.shape)}
    body = json.dumps({"inputs": [{**tensor, "data": example.clip.values.ravel().tolist()}]}).encode()
    before = runs(server)
    answer = ask(server, "POST", INFER, "Origin: http://evil.test", *NO_CORS, body=body)
    assert answer.status == 403
    assert "--allow-origin" in json.loads(answer.body)["error"]
    assert runs(server) == before
    assert ask(server, "POST", INFER, body=body).status == 200
    assert runs(server) == before + 1


ORIGINS = [
    "http://evil.test",
    "null",
    "file://",
    "http://127.0.0.1",
    "http://localhost:8000",
    APP,
    "",
    "chrome-extension://a",
]


@pytest.mark.parametrize("origin", ORIGINS)
def test_no_origin_is_allowed_by_default(server: Server, origin: str) -> None:
    for method, path in (("GET", "/v2"), ("POST", f"/v2/repository/models/{NAME}/load"), ("GET", "/v2/health/live")):
        answer = ask(server, method, path, f"Origin: {origin}")
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers
    assert ask(server, "GET", "/metrics", f"Origin: {origin}", port=server.metrics).status == 403


def test_what_a_page_loads_without_an_origin_is_refused(server: Server) -> None:
    """Images and scripts."""
    for site in ("cross-site", "same-site"):
        assert ask(server, "GET", "/v2", f"Sec-Fetch-Site: {site}", "Sec-Fetch-Mode: no-cors").status == 403
    for site in ("none", "same-origin"):
        assert ask(server, "GET", "/v2", f"Sec-Fetch-Site: {site}").status == 200


OTHER_HOSTS = [
    "evil.test",
    "evil.test:8000",
    "127.0.0.1.evil.test",
    "localhost.evil.test",
    "0.0.0.0:8000",
    "10.0.0.1",
    "[::2]:8000",
    "",
    "127.0.0.1, evil.test",
    "127.0.0.1%evil.test",
    "127.0.0.1@evil.test",
    "evil@127.0.0.1",
    "localhost.",
    "a b",
]
OWN_HOSTS = ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LocalHost", "[::1]:8000", "127.0.0.2"]


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_a_name_that_was_made_to_resolve_to_loopback_is_refused(server: Server, host: str) -> None:
    for path, port in (("/v2", server.http), ("/metrics", server.metrics), ("/v2/health/live", server.http)):
        answer = ask(server, "GET", path, host=host, port=port)
        assert answer.status == 403
        assert "--allow-host" in json.loads(answer.body)["error"]


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_loopback_names_are_answered(server: Server, host: str) -> None:
    assert ask(server, "GET", "/v2", host=host).status == 200


def test_two_hosts_are_refused(server: Server) -> None:
    assert ask(server, "GET", "/v2", "Host: evil.test").status in (400, 403)


def test_refused_pages_are_logged_and_counted(server: Server) -> None:
    ask(server, "GET", "/v2", "Origin: http://logged.test")
    line = server.wait_for("request refused", code="PERMISSION_DENIED")
    assert "web pages" in line["error"]
    assert server.value("lcve_requests_total", code="PERMISSION_DENIED") > 0


def test_no_answer_names_a_library(server: Server) -> None:
    for answer in (
        ask(server, "GET", "/v2"),
        ask(server, "GET", "/none"),
        ask(server, "GET", "/v2", "Origin: http://evil.test"),
    ):
        assert answer.headers["server"] == "lcve-deploy"


def preflight(server: Server, origin: str, *more: str, path: str = INFER) -> Answer:
    asked = ("Access-Control-Request-Method: POST", f"Access-Control-Request-Headers: authorization,{LENGTH.lower()}")
    return ask(server, "OPTIONS", path, f"Origin: {origin}", *asked, *more)


@pytest.mark.parametrize("origin", [APP, "http://localhost:3000"])
def test_a_preflight_of_an_allowed_origin_is_answered(allowing: Server, origin: str) -> None:
    answer = preflight(allowing, origin, "Access-Control-Request-Private-Network: true")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == origin
    assert answer.headers["access-control-allow-methods"] == "GET, POST"
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", LENGTH.lower()} <= set(allowed)
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    assert "access-control-allow-private-network" not in preflight(allowing, origin).headers


@pytest.mark.parametrize(
    "origin", ["http://app.example", "https://app.example:8443", "https://app.example.evil", "null"]
)
def test_a_preflight_of_another_origin_is_refused(allowing: Server, origin: str) -> None:
    answer = preflight(allowing, origin)
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers


def test_an_allowed_page_gets_answers_and_errors_that_it_can_read(allowing: Server, example: Example) -> None:
    lines, body = infer_lines(example)
    page = (f"Origin: {APP}", "Sec-Fetch-Site: cross-site", f"Authorization: Bearer {TOKEN}")
    answers = {
        200: ask(allowing, "POST", INFER, *page, *lines, body=body),
        401: ask(allowing, "GET", "/v2", *page[:2]),
        404: ask(allowing, "GET", "/none", *page),
        405: ask(allowing, "OPTIONS", INFER, *page),
        400: ask(allowing, "POST", INFER, *page, body=b"{"),
    }
    for status, answer in answers.items():
        assert answer.status == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["vary"] == "Origin"
        assert LENGTH in answer.headers["access-control-expose-headers"]
    assert ask(allowing, "GET", "/v2", page[2]).headers["vary"] == "Origin"


def test_an_allowed_name_is_answered(allowing: Server) -> None:
    token = f"Authorization: Bearer {TOKEN}"
    assert ask(allowing, "GET", "/v2", token, host="lcve.internal:8000").status == 200
    assert ask(allowing, "GET", "/v2", token, host="LCVE.internal").status == 200
    assert ask(allowing, "GET", "/v2", token, host="evil.test").status == 403


def test_other_machines_may_use_any_name_unless_the_operator_names_some(exported: Path) -> None:
    with serving(exported / "server", "--host", "0.0.0.0") as server:  # noqa: S104
        assert ask(server, "GET", "/v2", host="server.example").status == 200
        assert ask(server, "GET", "/v2", "Origin: http://evil.test", host="server.example").status == 403
    settings = ServerSettings(sources=(), host="0.0.0.0", web=WebAccess(hosts=("server.example",)))  # noqa: S104
    policy = WebPolicy.of(settings)
    policy.require(origin=None, hosts=["server.example:8000"])
    policy.require(origin=None, hosts=["127.0.0.1"])
    with pytest.raises(ForbiddenError):
        policy.require(origin=None, hosts=["evil.test"])


def test_the_origin_that_a_proxy_for_grpc_web_passes_on_is_checked(
    server: Server, allowing: Server, example: Example
) -> None:
    def status(server: Server, **metadata: str) -> str:
        with grpc_stub(server) as stub:
            try:
                stub.ModelInfer(grpc_message(example.clip), metadata=tuple(metadata.items()), timeout=30)
            except grpc.RpcError as error:
                failed: Any = error
                return str(failed.code().name)
            return "OK"

    token = f"Bearer {TOKEN}"
    assert status(server, origin="http://evil.test") == "PERMISSION_DENIED"
    assert status(server) == "OK"
    assert status(allowing, origin=APP, authorization=token) == "OK"
    assert status(allowing, origin="http://evil.test", authorization=token) == "PERMISSION_DENIED"


def test_the_host_is_checked_if_a_name_resolves_to_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"box": ["127.0.1.1", "::1"], "both": ["127.0.0.1", "10.0.0.1"]}

    def resolve(name: str, *_: object, **__: object) -> list[tuple[Any, ...]]:
        if name not in known:
            raise socket.gaierror
        return [(0, 0, 0, "", (address, 0)) for address in known[name]]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    policy = WebPolicy.of(ServerSettings(sources=(), host="box"))
    for name in ("box", "BOX:8000", "127.0.0.1"):
        policy.require(origin=None, hosts=[name])
    with pytest.raises(ForbiddenError):
        policy.require(origin=None, hosts=["evil.test"])
    assert [ServerSettings(sources=(), host=name).is_local for name in ("both", "unknown", "", "::")] == [False] * 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _literal(name: str, value: str) -> bytes:
    """A header of HTTP/2 without compression."""
    return b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


BROWSER: Mapping[str, str] = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/inference.GRPCInferenceService/RepositoryModelLoad",
    ":authority": "127.0.0.1",
    "origin": "http://evil.test",
    "content-type": "text/plain;charset=UTF-8",
}


@pytest.mark.parametrize("left_out", ["", "origin"])
def test_the_grpc_port_does_nothing_for_the_requests_of_a_browser(server: Server, left_out: str) -> None:
    """A browser cannot set ``te``."""
    message = b"\x12\x05model"
    block = b"".join(_literal(name, value) for name, value in BROWSER.items() if name != left_out)
    sent = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _frame(4, 0, 0, b""),
        _frame(1, 4, 1, block),
        _frame(0, 1, 1, b"\0" + len(message).to_bytes(4) + message),
        _frame(6, 0, 0, bytes(8)),
    ]
    calls = server.value("lcve_requests_total", protocol="grpc", code="OK")
    with socket.create_connection((server.host, server.grpc or 0), timeout=30) as connection:
        connection.sendall(b"".join(sent))
        received = b""
        while b"\0\0\x08\x06\x01" not in received and (part := connection.recv(65536)):
            received += part
    assert server.value("lcve_requests_total", protocol="grpc", code="OK") == calls


@pytest.mark.parametrize(
    "origin", ["*", "null", "app.example", "https://app.example/", "HTTPS://app.example", "https://app.example:443", ""]
)
def test_what_is_no_origin_is_an_error_of_the_operator(origin: str) -> None:
    with pytest.raises(ValueError, match="expected an origin"):
        WebAccess(origins=(origin,))


@pytest.mark.parametrize("host", ["", "a:80", "*", "A", "http://a", "a/b", "-a"])
def test_what_is_no_host_is_an_error_of_the_operator(host: str) -> None:
    with pytest.raises(ValueError, match="expected a host name"):
        WebAccess(hosts=(host,))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--allow-origin", "*"), "expected an origin"),
        (("--allow-host", "a:80"), "expected a host name"),
        (("--shared-memory-prefix", "clips"), "need --shared-memory"),
        (("--shared-memory-user", "1000"), "need --shared-memory"),
    ],
)
def test_options_that_cannot_be_are_errors_of_usage(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    assert words in run_error("serve", f"m={tmp_path}", *options)


def test_origins_and_hosts_of_every_kind_can_be_allowed() -> None:
    WebAccess(
        origins=(APP, "http://localhost:3000", "http://[::1]:8000", "chrome-extension://abc"), hosts=("a.b", "[::1]")
    )
