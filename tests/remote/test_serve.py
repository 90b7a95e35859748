"""``lcve run ADDRESS`` and ``lcve serve`` with each other: the logits are those of ``lcve run`` without a server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    Client,
    EncryptedClip,
    PlainClip,
    RemoteOptions,
    RemoteSession,
    SecurityKey,
    open_session,
    rotate,
)
from lcve_deploy.errors import DeniedError, RequestError, TooLargeError, UnknownKeyError, UnknownModelError
from tests.conftest import ORACLE, heed_interrupts, run_error, run_ok

pytestmark = pytest.mark.xdist_group("shared memory")  # every process sees the regions of all

TOKEN = "a-token-of-a-test-0123456789abcdef"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm")


@pytest.fixture(scope="module")
def ports(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Addresses of a server with the exported artifact, by their schemes."""
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"camera {TOKEN}\n")
    tokens.chmod(0o600)
    command = [
        sys.executable,
        "-c",
        "from lcve_deploy.cli import lcve; lcve()",
        "serve",
        f"digits={exported / 'server'}",
    ]
    any_port = [word for name in ("http", "grpc", "metrics") for word in (f"--{name}-port", "0")]
    more = ["--json", "--shared-memory", "--tokens", str(tokens), "--max-request-mib", "1", "--max-batch", "4"]
    with subprocess.Popen(
        [*command, *any_port, *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, preexec_fn=heed_interrupts
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield {scheme: f"{scheme}://127.0.0.1:{told[scheme]}/digits" for scheme in ("grpc", "http")}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.fixture(params=["grpc", "http"])
def address(request: pytest.FixtureRequest, ports: dict[str, str]) -> str:
    return ports[request.param]


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LCVE_TOKEN", TOKEN)


@pytest.fixture(scope="module")
def client(exported: Path, key_file: Path) -> Client:
    return Client.open(exported / "client", SecurityKey.read(key_file))


@pytest.fixture(scope="module")
def stack(client: Client) -> EncryptedClip:
    values = np.random.default_rng(0).integers(0, 256, (9, *client.settings.binding.geometry.clip_shape), np.uint8)
    return client.encrypt(PlainClip(values=values))


def test_logits_are_those_of_a_session_on_this_machine(
    address: str, client: Client, stack: EncryptedClip, exported: Path
) -> None:
    expected = open_session(exported / "server").run(stack)
    with RemoteSession(address, client.settings.binding) as session:
        model = session.connect()
        assert (model.output.shape, model.max_batch, model.versions, model.bound) == ((5,), 4, ("1",), True)
        np.testing.assert_allclose(session.run(stack), expected, atol=1e-5)
    with RemoteSession(f"{address}/1", client.settings.binding) as session:
        np.testing.assert_allclose(session.run(stack), expected, atol=1e-5)


@LINUX
def test_clips_in_shared_memory_give_the_same_logits(
    ports: dict[str, str], client: Client, stack: EncryptedClip, exported: Path
) -> None:
    from tritonclient.grpc import InferenceServerClient

    options = RemoteOptions(shared_memory=True)
    endpoint, headers = ports["grpc"].split("/")[2], {"authorization": f"Bearer {TOKEN}"}
    with (
        RemoteSession(ports["grpc"], client.settings.binding, options) as session,
        InferenceServerClient(endpoint) as ask,
    ):
        np.testing.assert_allclose(session.run(stack), open_session(exported / "server").run(stack), atol=1e-5)
        assert len(ask.get_system_shared_memory_status(headers=headers).regions) == 1
        session.close()
        assert len(ask.get_system_shared_memory_status(headers=headers).regions) == 0
    assert not list(Path("/dev/shm").glob("lcve_*"))  # noqa: S108


def test_refusals_of_a_server_are_our_errors(
    address: str,
    client: Client,
    stack: EncryptedClip,
    exported: Path,
    key_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    binding = client.settings.binding
    with RemoteSession(f"{address}/7", binding) as session, pytest.raises(UnknownModelError):
        session.run(stack)
    with RemoteSession(f"{address}s", binding) as session, pytest.raises(UnknownModelError):
        session.run(stack)
    rotate(exported, tmp_path / "rotated", key=SecurityKey.read(key_file))
    moved = Client.open(tmp_path / "rotated/client", SecurityKey.read(key_file))
    with RemoteSession(address, moved.settings.binding) as session, pytest.raises(UnknownKeyError, match="has no key"):
        session.run(EncryptedClip(values=stack.values, binding=moved.settings.binding))
    monkeypatch.setenv("LCVE_TOKEN", TOKEN[::-1])
    with RemoteSession(address, binding) as session, pytest.raises(DeniedError):
        session.run(stack)


def test_a_server_refuses_a_clip_of_another_binding_too(
    address: str, client: Client, stack: EncryptedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parameters of the request alone: as if the model were replaced behind a session's back."""
    from lcve_deploy.protocol.binding import binding_to_parameters

    wrong = lambda binding: {**binding_to_parameters(binding), "lcve_layout": "video"}  # noqa: E731
    for module in ("over_grpc", "over_http"):
        monkeypatch.setattr(f"lcve_deploy.remote.{module}.binding_to_parameters", wrong)
    with RemoteSession(address, client.settings.binding) as session, pytest.raises(RequestError, match="layout"):
        session.run(stack)


def test_more_bytes_than_the_server_takes_are_said_to_be(
    address: str, client: Client, stack: EncryptedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lcve_deploy.remote.endpoints import Endpoint

    large = EncryptedClip(values=np.repeat(stack.values, 8, axis=0), binding=stack.binding)
    with RemoteSession(address, client.settings.binding) as session:
        import dataclasses

        unlimited = dataclasses.replace(session.connect(), max_batch=None)
        monkeypatch.setattr(Endpoint, "model", lambda self, seconds: unlimited)
        with pytest.raises(TooLargeError):
            session.run(large)


def test_both_sides_of_the_command_line(
    address: str, exported: Path, key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, sides = ORACLE / "clip_8x32x32.npy", ("--key", key_file, "--client", exported / "client")
    for name, where in (("local", (exported, clip, *sides[:2])), ("remote", (address, clip, *sides))):
        run_ok("run", *where, "--logits-out", tmp_path / f"{name}.npy")
    np.testing.assert_allclose(np.load(tmp_path / "remote.npy"), np.load(tmp_path / "local.npy"), atol=1e-5)
    monkeypatch.delenv("LCVE_TOKEN")
    assert "denied access" in run_error("run", address, clip, *sides)
