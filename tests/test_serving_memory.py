"""Shared memory of the server: it belongs to the client that registered it, and to no other."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession
from lcve_deploy.errors import RequestError, UnknownModelError
from lcve_deploy.protocol.stubs import messages
from lcve_deploy.serving.hosts import is_loopback, peer_host
from lcve_deploy.serving.settings import SharedMemory
from lcve_deploy.serving.shared_memory import ClientRegions, Regions, Slice
from tests.support.servers import Example, Server, grpc_message, grpc_stub, make_example, request, serving

SHARED = Path("/dev/shm")  # noqa: S108 (where POSIX shared memory lives on Linux)
ALLOWED = SharedMemory(prefix="lcve-test-")

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no /dev/shm here")


@pytest.fixture
def shared() -> Iterator[Path]:
    path = SHARED / f"lcve-test-{secrets.token_hex(8)}"
    path.write_bytes(bytes(range(100)))
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def server_regions() -> Iterator[Regions]:
    regions = Regions(ALLOWED)
    yield regions
    regions.close()


@pytest.fixture
def regions(server_regions: Regions) -> ClientRegions:
    return server_regions.of("alice", is_local=True)


def test_a_region_is_read_and_written_within_its_bounds(regions: ClientRegions, shared: Path) -> None:
    regions.register("r", f"/{shared.name}", 10, 50)
    assert regions.read(Slice(region="r", offset=5, size=3)) == bytes([15, 16, 17])
    regions.write(Slice(region="r", offset=48, size=2), b"ab")
    assert shared.read_bytes()[58:61] == b"ab" + bytes([60])
    for part in (Slice(region="r", offset=48, size=3), Slice(region="r", offset=51, size=0)):
        with pytest.raises(RequestError, match="not within"):
            regions.read(part)
        with pytest.raises(RequestError, match="not within"):
            regions.write(part, b"")
    with pytest.raises(RequestError, match="2 bytes"):
        regions.write(Slice(region="r", offset=0, size=1), b"ab")
    assert regions.status() == {"r": {"name": "r", "key": f"/{shared.name}", "offset": 10, "byte_size": 50}}
    regions.unregister("r")
    with pytest.raises(UnknownModelError):
        regions.read(Slice(region="r", offset=0, size=1))


def test_a_region_that_is_truncated_is_an_error_and_never_grows(regions: ClientRegions, shared: Path) -> None:
    regions.register("r", shared.name, 0, 100)
    os.truncate(shared, 10)
    with pytest.raises(RequestError, match="was truncated"):
        regions.read(Slice(region="r", offset=0, size=100))
    with pytest.raises(RequestError, match="the truncated object"):
        regions.write(Slice(region="r", offset=50, size=2), b"ab")
    assert shared.stat().st_size == 10


def test_a_full_memory_is_an_error_of_the_request(
    regions: ClientRegions, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: Any) -> int:
        raise OSError(28, "No space left on device")

    regions.register("r", shared.name, 0, 100)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(RequestError, match="No space"):
        regions.write(Slice(region="r", offset=0, size=2), b"ab")
    monkeypatch.setattr(os, "pwrite", lambda *given: 1)
    with pytest.raises(RequestError, match="took 1 of 2"):
        regions.write(Slice(region="r", offset=0, size=2), b"ab")


def test_what_is_no_shared_memory_is_not_opened(regions: ClientRegions, shared: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link, pipe = shared.with_name(f"{shared.name}-link"), shared.with_name(f"{shared.name}-pipe")
    link.symlink_to(secret)
    os.mkfifo(pipe)
    keys = (f"../..{secret}", "../../etc/passwd", str(secret), f"{shared.name}/../{shared.name}", link.name, pipe.name)
    try:
        for key in (*keys, "", ".", "..", "a/b", "lcve-test-none", "lcve-test-" + "x" * 300, f"{shared.name}\0"):
            with pytest.raises(RequestError):
                regions.register("r", key, 0, 6)
    finally:
        link.unlink()
        pipe.unlink()
    with pytest.raises(RequestError, match="not within"):
        regions.register("r", shared.name, 50, 51)
    assert regions.status() == {}
    regions.register("r", shared.name, 0, 100)
    with pytest.raises(RequestError, match="already registered"):
        regions.register("r", shared.name, 0, 100)
    with pytest.raises(RequestError, match="does not accept shared memory"):
        Regions(None).of("alice", is_local=True).register("r", shared.name, 0, 100)


def test_only_objects_with_the_prefix_are_opened(shared: Path) -> None:
    for prefix in ("lcve_", "LCVE-TEST-", "cve-test-", f"{shared.name}x"):
        with pytest.raises(RequestError, match="cannot be opened for this client"):
            Regions(SharedMemory(prefix=prefix)).of("", is_local=True).register("r", shared.name, 0, 10)
    regions = Regions(SharedMemory(prefix=""))
    regions.of("", is_local=True).register("r", shared.name, 0, 10)
    regions.close()


def test_an_object_with_a_second_name_is_not_opened(regions: ClientRegions, shared: Path) -> None:
    other = shared.with_name(f"{shared.name}-other")
    other.hardlink_to(shared)
    try:
        with pytest.raises(RequestError, match="cannot be opened"):
            regions.register("r", other.name, 0, 10)
    finally:
        other.unlink()
    regions.register("r", shared.name, 0, 10)


def test_an_object_of_another_user_is_opened_only_if_the_operator_allows_that_user(
    server_regions: Regions, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the server ran as another user; ``chown`` would need root."""
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(RequestError, match="cannot be opened"):
        server_regions.of("alice", is_local=True).register("r", shared.name, 0, 10)
    server_regions.allowed = dataclasses.replace(ALLOWED, users=(me,))
    server_regions.of("alice", is_local=True).register("r", shared.name, 0, 10)


def test_the_refusal_does_not_tell_which_objects_there_are(regions: ClientRegions, shared: Path) -> None:
    link = shared.with_name("lcve-test-link")
    link.symlink_to(shared)
    said = set()
    try:
        for key in (link.name, "lcve-test-none", "sem.other"):
            with pytest.raises(RequestError) as caught:
                regions.register("r", key, 0, 10)
            said.add(str(caught.value).replace(key, "KEY"))
    finally:
        link.unlink()
    assert len(said) == 1


def test_another_client_can_neither_use_nor_list_nor_unregister_nor_take_over(
    server_regions: Regions, regions: ClientRegions, shared: Path
) -> None:
    regions.register("r", shared.name, 0, 100)
    other = server_regions.of("mallory", is_local=True)
    assert other.status() == {}
    for attack in (
        lambda: other.status("r"),
        lambda: other.read(Slice(region="r", offset=0, size=1)),
        lambda: other.write(Slice(region="r", offset=0, size=1), b"x"),
        lambda: other.register("mine", shared.name, 50, 10),
    ):
        with pytest.raises(RequestError):
            attack()
    other.unregister("r")
    other.unregister()
    assert regions.read(Slice(region="r", offset=0, size=2)) == bytes([0, 1])
    assert server_regions.of("alice", is_local=True).status("r")
    regions.unregister()
    other.register("mine", shared.name, 50, 10)


def test_a_client_of_another_machine_registers_nothing(server_regions: Regions, shared: Path) -> None:
    with pytest.raises(RequestError, match="on the server's machine"):
        server_regions.of("alice", is_local=False).register("r", shared.name, 0, 10)


def test_regions_have_a_number_and_leave_no_descriptor_open(shared: Path) -> None:
    server = Regions(ALLOWED)
    for client in range(4):
        regions = server.of(str(client), is_local=True)
        own = shared.with_name(f"{shared.name}-{client}")
        own.write_bytes(bytes(10))
        for i in range(64):
            regions.register(str(i), own.name, 0, 10)
        with pytest.raises(RequestError, match="at most 64"):
            regions.register("more", own.name, 0, 10)
        own.unlink()
    with pytest.raises(RequestError, match="at most 256"):
        server.of("fifth", is_local=True).register("more", shared.name, 0, 10)
    server.of("0", is_local=True).register("more", shared.name, 0, 10)  # objects that were removed no longer count
    with pytest.raises(RequestError):
        server.of("0", is_local=True).register("beyond", shared.name, 0, 1000)
    server.close()
    assert [name for name in open_files() if shared.name in name] == []


def open_files() -> list[str]:
    """Names of what this process has open. Other threads may close theirs meanwhile."""
    names = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.append(str(descriptor.readlink()))
    return names


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "::ffff:127.0.0.1", "LOCALHOST"]
)
def test_loopback_hosts(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "evil.test", "10.0.0.1", "::", "127.0.0.1.evil.test", "localhost.evil"])
def test_other_hosts(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "[::1]"),
        ("ipv6:[::1]:5000", "[::1]"),
        ("unix:/run/lcve", "localhost"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "::1"),
    ],
)
def test_hosts_of_peers(peer: str, host: str) -> None:
    assert peer_host(peer) == host


# A real server with two clients


ALICE, MALLORY = "alice-0123456789abcdef", "mallory-0123456789abcdef"


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"alice {ALICE}\nmallory {MALLORY}\n")
    tokens.chmod(0o600)
    with serving(
        exported / "server", "--tokens", tokens, "--shared-memory", "--shared-memory-prefix", "lcve-test-"
    ) as server:
        yield server


class Caller:
    """One client of the server, by its token."""

    def __init__(self, stub: Any, token: str) -> None:
        self._stub, self._metadata, self._pb = stub, (("authorization", f"Bearer {token}"),), messages()

    def call(self, method: str, /, **fields: Any) -> Any:
        message = getattr(self._pb, f"{method}Request")(**fields)
        return getattr(self._stub, method)(message, metadata=self._metadata, timeout=30)

    def register(self, name: str, key: str, size: int) -> Any:
        return self.call("SystemSharedMemoryRegister", name=name, key=key, byte_size=size)

    def infer(self, example: Example, *, source: str = "", target: str = "") -> Any:
        message = grpc_message(example.clip)
        if source:
            del message.raw_input_contents[:]
            _place(message.inputs[0], source, example.clip.values.nbytes)
        if target:
            _place(message.outputs.add(name="logits"), target, example.logits.nbytes)
        return self._stub.ModelInfer(message, metadata=self._metadata, timeout=30)

    def refused(self, call: Callable[[], Any]) -> str:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        error: Any = caught.value
        return str(error.code().name)


def _place(tensor: Any, region: str, size: int) -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size


@pytest.fixture
def clients(server: Server) -> Iterator[tuple[Caller, Caller]]:
    with grpc_stub(server) as stub:
        alice, mallory = Caller(stub, ALICE), Caller(stub, MALLORY)
        yield alice, mallory
        for client in (alice, mallory):
            client.call("SystemSharedMemoryUnregister")


def test_one_token_cannot_reach_the_regions_of_another(
    server: Server, clients: tuple[Caller, Caller], shared: Path, example: Example
) -> None:
    alice, mallory = clients
    clip = example.clip.values.tobytes()
    shared.write_bytes(clip)
    alice.register("clips", shared.name, len(clip))
    np.testing.assert_allclose(_logits(alice.infer(example, source="clips")), example.logits, atol=1e-5)
    assert mallory.call("SystemSharedMemoryStatus").regions == {}
    refused = [
        mallory.refused(lambda: mallory.infer(example, source="clips")),
        mallory.refused(lambda: mallory.infer(example, target="clips")),
        mallory.refused(lambda: mallory.register("mine", shared.name, len(clip))),
        mallory.refused(lambda: mallory.call("SystemSharedMemoryStatus", name="clips")),
    ]
    assert set(refused) <= {"NOT_FOUND", "INVALID_ARGUMENT"}
    mallory.call("SystemSharedMemoryUnregister", name="clips")
    mallory.call("SystemSharedMemoryUnregister")
    assert shared.read_bytes() == clip
    np.testing.assert_allclose(_logits(alice.infer(example, source="clips")), example.logits, atol=1e-5)
    status, body = request(
        server.host, server.http, "GET", "/v2/systemsharedmemory/status", headers={"Authorization": f"Bearer {MALLORY}"}
    )
    assert (status, body) == (200, b"[]")


def _logits(response: Any) -> np.ndarray:
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(1, -1)


def test_a_real_truncation_is_an_error_and_the_server_goes_on(
    server: Server, clients: tuple[Caller, Caller], shared: Path, example: Example
) -> None:
    alice, _ = clients
    clip = example.clip.values.tobytes()
    shared.write_bytes(clip)
    alice.register("clips", shared.name, len(clip))
    os.truncate(shared, 4096)
    assert alice.refused(lambda: alice.infer(example, source="clips")) == "INVALID_ARGUMENT"
    assert alice.refused(lambda: alice.infer(example, source="clips", target="clips")) == "INVALID_ARGUMENT"
    os.truncate(shared, 0)
    assert alice.refused(lambda: alice.infer(example, source="clips")) == "INVALID_ARGUMENT"
    assert shared.stat().st_size == 0
    shared.unlink()
    np.testing.assert_allclose(_logits(alice.infer(example)), example.logits, atol=1e-5)
    assert server.process.poll() is None


@pytest.mark.xdist_group("shared memory")  # every process sees the regions of all
def test_our_own_client_shares_memory_with_the_default_prefix(exported: Path, example: Example) -> None:
    with serving(exported / "server", "--shared-memory") as server:
        options = RemoteOptions(shared_memory=True, deadline=30)
        with RemoteSession(server.address(), example.clip.binding, options) as session:
            for _ in range(2):
                np.testing.assert_allclose(session.run(example.clip), example.logits, atol=1e-5)
            transport: Any = session._endpoints.members[0]._transport
            assert transport._shares
        assert any(
            "share" in line["raw"] and "--tokens" in line["raw"] for line in server.log() if line["event"] == "raw"
        )
