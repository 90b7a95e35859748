"""Certificates, authorities of clients and tokens that change under a running ``lcve serve``."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from lcve_deploy.errors import DeniedError, LcveError
from lcve_deploy.remote import RemoteOptions, RemoteSession
from tests.support.servers import Example, Server, grpc_message, make_example, serving
from tests.support.tls import Authority, Pem, make_authority

OLD, NEW = "0123456789abcdef", "fedcba9876543210"
BOTH = pytest.mark.parametrize("scheme", ["https", "grpcs"])


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def successor(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that replaces the first one."""
    return make_authority(tmp_path_factory.mktemp("successor"))


@dataclasses.dataclass(frozen=True)
class Files:
    """The files that the server reads."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / name

    def use(self, authority: Authority) -> None:
        """Put the certificates of an authority into place."""
        pairs = ((authority.server.cert, "cert"), (authority.server.key, "key"), (authority.ca, "client_ca"))
        for source, name in pairs:
            shutil.copyfile(source, self.folder / name)

    def use_token(self, token: str, name: str = "camera-7") -> None:
        self.tokens.write_text(f"{name} {token}\n")
        self.tokens.chmod(0o600)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.use(authority)
    files.use_token(OLD)
    return files


@pytest.fixture
def server(exported: Path, files: Files) -> Iterator[Server]:
    tls = ("--tls-cert", files.cert, "--tls-key", files.key, "--tls-client-ca", files.client_ca)
    with serving(exported / "server", *tls, "--tokens", files.tokens) as server:
        yield server


def reload(server: Server) -> list[dict[str, str]]:
    """Reload and return the new lines of the log."""
    before = len(server.log())
    server.signal(signal.SIGHUP)
    server.wait_for_more("reload complete", before)
    return server.log()[before:]


def ask(server: Server, scheme: str, example: Example, authority: Authority, client: Pem | None = None) -> None:
    """One request on new connections, with the server's and the client's certificates of an authority."""
    client = client or authority.client
    options = RemoteOptions(deadline=20, retries=0, tls_ca=authority.ca, tls_cert=client.cert, tls_key=client.key)
    with RemoteSession(server.address(scheme), example.clip.binding, options) as session:
        session.run(example.clip)


@BOTH
def test_new_certificates_and_authorities_replace_the_old_ones(
    server: Server,
    files: Files,
    example: Example,
    scheme: str,
    authority: Authority,
    successor: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LCVE_TOKEN", OLD)
    ask(server, scheme, example, authority)
    files.use(successor)
    assert not [line for line in reload(server) if line["level"] == "error"]
    ask(server, scheme, example, successor)
    with pytest.raises(LcveError):
        ask(server, scheme, example, authority)
    with pytest.raises(LcveError):  # the server's certificate is known, the client's is of the authority that is gone
        ask(server, scheme, example, successor, authority.client)
    ask(server, scheme, example, successor)


def test_a_session_of_a_removed_authority_is_not_resumed(
    server: Server, files: Files, authority: Authority, successor: Authority
) -> None:
    """The certificate of the server stays, so that only the client's is at stake."""
    context = ssl.create_default_context(cafile=authority.ca)
    context.load_cert_chain(authority.client.cert, authority.client.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # whose sessions Python's client can resume before it reads

    def connect(session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
        with (
            socket.create_connection((server.host, server.http or 0), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname=server.host, session=session) as secure,
        ):
            secure.sendall(f"GET /v2/health/live HTTP/1.1\r\nHost: {server.host}\r\nConnection: close\r\n\r\n".encode())
            assert secure.recv(12) == b"HTTP/1.1 200"
            return secure.session

    session = connect()
    connect(session)
    shutil.copyfile(successor.ca, files.client_ca)
    reload(server)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        connect(session)


@BOTH
def test_new_tokens_replace_the_old_ones(
    server: Server,
    files: Files,
    example: Example,
    scheme: str,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LCVE_TOKEN", OLD)
    ask(server, scheme, example, authority)
    files.use_token(NEW)
    reload(server)
    with pytest.raises(DeniedError):
        ask(server, scheme, example, authority)
    monkeypatch.setenv("LCVE_TOKEN", NEW)
    ask(server, scheme, example, authority)


def test_a_removed_token_ends_the_requests_of_open_connections(
    server: Server, files: Files, example: Example, authority: Authority
) -> None:
    """A connection, and a stream, that were opened with the token that is gone."""
    from lcve_deploy.protocol.stubs import services

    credentials = grpc.ssl_channel_credentials(
        authority.ca.read_bytes(), authority.client.key.read_bytes(), authority.client.cert.read_bytes()
    )
    metadata = (("authorization", f"Bearer {OLD}"),)
    step = threading.Event()

    def requests() -> Iterator[object]:
        yield grpc_message(example.clip)
        step.wait(60)
        yield grpc_message(example.clip)

    with grpc.secure_channel(f"{server.host}:{server.grpc}", credentials) as channel:
        stub = services().GRPCInferenceServiceStub(channel)
        stub.ModelInfer(grpc_message(example.clip), metadata=metadata, timeout=20)
        stream = stub.ModelStreamInfer(requests(), metadata=metadata, timeout=60)
        assert not next(stream).error_message
        files.use_token(NEW)
        reload(server)
        step.set()
        again: tuple[Callable[[], object], ...] = (
            lambda: next(stream),
            lambda: stub.ModelInfer(grpc_message(example.clip), metadata=metadata, timeout=20),
        )
        for ask_again in again:
            with pytest.raises(grpc.RpcError) as caught:
                ask_again()
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


BROKEN = {
    "no certificate": lambda files, other: files.cert.write_text("broken"),
    "no file": lambda files, other: files.cert.unlink(),
    "a key of another certificate": lambda files, other: shutil.copyfile(other.server.key, files.key),
    "an authority that is none": lambda files, other: files.client_ca.write_text("broken"),
    "no token": lambda files, other: files.tokens.write_text("# none\n"),
    "a token that is too short": lambda files, other: files.tokens.write_text("camera-7 short\n"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_file_is_one_error_and_the_old_one_stays(
    server: Server,
    files: Files,
    example: Example,
    authority: Authority,
    successor: Authority,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    BROKEN[what](files, successor)
    (error,) = [line for line in reload(server) if line["level"] == "error"]
    assert error["files"] == ("tokens" if "token" in what else "TLS")
    assert "short" not in error["error"].split("token of")[0]
    monkeypatch.setenv("LCVE_TOKEN", OLD)
    for scheme in ("https", "grpcs"):
        ask(server, scheme, example, authority)
    files.use(successor)
    files.use_token(NEW)
    assert not [line for line in reload(server) if line["level"] == "error"]
    monkeypatch.setenv("LCVE_TOKEN", NEW)
    for scheme in ("https", "grpcs"):
        ask(server, scheme, example, successor)
