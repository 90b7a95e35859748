"""Sealed requests end to end: a real server, both protocols, both suites, and all that is refused."""

from __future__ import annotations

import base64
import dataclasses
import json
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import RemoteOptions, RemoteSession, SealingKey, SealingPublicKey, SecurityKey
from lcve_deploy.clips import Layout
from lcve_deploy.errors import LcveError, MismatchError, RequestError, SealingError
from lcve_deploy.sealing import MAGIC, Header, Kind, SealedRequest, Suite, seal, seal_request
from tests.conftest import ORACLE, run_error, run_ok
from tests.support import servers
from tests.support.servers import LENGTH, NAME, Example, Server, grpc_stub, make_example, serving
from tests.test_video import make_video
from tests.watch.helpers import noisy_frames

PROTOCOLS = ("http", "grpc")
Post = Callable[[Server, bytes], tuple[str, Any]]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with old.key and new.key, of both suites, which the server opens with."""
    folder = tmp_path_factory.mktemp("serve-keys")
    SealingKey.create(Suite.X25519).write(folder / "old.key")
    SealingKey.create(Suite.HYBRID).write(folder / "new.key")
    return folder


@pytest.fixture(scope="module")
def server(exported: Path, keys: Path) -> Iterator[Server]:
    with serving(exported / "server", "--open-with", keys, "--log-level", "debug") as server:
        yield server


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server", clips=2)


def public(keys: Path, name: str = "old") -> SealingPublicKey:
    return SealingPublicKey.read(keys / f"{name}.pub")


def sealed(example: Example, to: SealingPublicKey, **changes: Any) -> SealedRequest:
    clip = example.clip
    how: dict[str, Any] = {"clips": len(clip.values), "binding": clip.binding, "model": NAME, **changes}
    return seal_request(clip.values.tobytes(), to=to, **how)


def post_http(server: Server, data: bytes) -> tuple[str, Any]:
    """Send sealed bytes: OK and the bytes of the answer, or the status and the text of the error."""
    fields = {
        "inputs": [
            {
                "name": "sealed",
                "datatype": "UINT8",
                "shape": [len(data)],
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "outputs": [{"name": "sealed", "parameters": {"binary_data": True}}],
    }
    head = json.dumps(fields).encode()
    headers = {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    status, body = servers.request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", head + data, headers)
    if status != 200:
        return {400: "INVALID_ARGUMENT", 503: "UNAVAILABLE"}.get(status, str(status)), json.loads(body)["error"]
    return "OK", body[body.index(b"LCVESEAL") :]


def post_grpc(server: Server, data: bytes) -> tuple[str, Any]:
    import grpc

    from lcve_deploy.protocol.stubs import messages

    message = messages().ModelInferRequest(model_name=NAME, raw_input_contents=[data])
    message.inputs.add(name="sealed", datatype="UINT8", shape=[len(data)])
    message.outputs.add(name="sealed")
    with grpc_stub(server) as stub:
        try:
            return "OK", stub.ModelInfer(message, timeout=30).raw_output_contents[0]
        except grpc.RpcError as error:
            return error.code().name, error.details()


@pytest.fixture(params=[post_http, post_grpc], ids=PROTOCOLS)
def post(request: pytest.FixtureRequest) -> Post:
    chosen: Post = request.param
    return chosen


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ["old", "new"])
def test_logits_are_those_of_plain_requests(
    server: Server, example: Example, keys: Path, protocol: str, name: str
) -> None:
    options = RemoteOptions(seal_to=public(keys, name))
    with RemoteSession(server.address(protocol), example.clip.binding, options) as session:
        session.connect()
        for _ in range(3):
            run = session.run_measured(example.clip)
            np.testing.assert_allclose(run.logits, example.logits, atol=1e-5)
            assert run.server_seconds is not None
            assert run.server_seconds > 0
    with RemoteSession(f"{server.address(protocol)}/1", example.clip.binding, options) as session:
        np.testing.assert_allclose(session.run(example.clip), example.logits, atol=1e-5)
    with RemoteSession(server.address(protocol), example.clip.binding) as session:
        plain = session.run_measured(example.clip)
        np.testing.assert_allclose(plain.logits, example.logits, atol=1e-5)
        assert plain.server_seconds is not None
        assert plain.server_seconds > 0
        assert run.sent_bytes > plain.sent_bytes > example.clip.values.nbytes


def test_the_answer_can_be_numbers_in_json(server: Server, example: Example, keys: Path) -> None:
    question = sealed(example, public(keys))
    fields = {
        "inputs": [{"name": "sealed", "datatype": "UINT8", "shape": [len(question.data)], "data": [*question.data]}]
    }
    status, body = servers.request(
        server.host, server.http, "POST", f"/v2/models/{NAME}/infer", json.dumps(fields).encode()
    )
    assert status == 200, body
    (output,) = json.loads(body)["outputs"]
    assert (output["name"], output["datatype"]) == ("sealed", "UINT8")
    opened = question.open_answer(bytes(output["data"]), classes=example.logits.shape[1])
    np.testing.assert_allclose(np.frombuffer(opened.logits, "<f4").reshape(2, -1), example.logits, atol=1e-5)


def test_a_replay_is_refused(server: Server, example: Example, keys: Path, post: Post) -> None:
    data = sealed(example, public(keys)).data
    assert post(server, data)[0] == "OK"
    for again in (post_http, post_grpc):
        code, words = again(server, data)
        assert (code, "accepted before" in words) == ("INVALID_ARGUMENT", True), words


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_changed_requests_are_refused(server: Server, example: Example, keys: Path, post: Post) -> None:
    for name in ("old", "new"):
        data, other = (sealed(example, public(keys, name)).data for _ in range(2))
        head = 12 + int.from_bytes(data[8:12], "little")
        cases = {
            "first byte": changed(data, 0),
            "length": changed(data, 8),
            "header": changed(data, 40),
            "encapsulated key": changed(data, head + 3),
            "ciphertext": changed(data, len(data) // 2),
            "tag": changed(data, len(data) - 1),
            "cut": data[:-1],
            "extended": data + b"\0",
            "spliced": data[: len(data) // 2] + other[len(data) // 2 :],
            "empty": b"\0",
        }
        for case, bad in cases.items():
            code, words = post(server, bad)
            assert code == "INVALID_ARGUMENT", (case, code, words)
            assert "sealed" in words, (case, words)
            assert "\n" not in words
        assert post(server, data)[0] == "OK"  # what was refused has not used it up


def test_requests_for_anyone_or_anything_else_are_refused(
    server: Server, example: Example, keys: Path, post: Post
) -> None:
    to, binding = public(keys), example.clip.binding
    archive = Header(kind=Kind.CLIP, suite=to.suite, recipient=to.fingerprint, binding=binding)
    stale = sealed(example, to)
    cases = {
        "sealed to the key": sealed(example, SealingKey.create().public_key).data,
        "sealed for the model 'other'": sealed(example, to, model="other").data,
        "asked is": sealed(example, to, version="7").data,
        "layout": sealed(example, to, binding=dataclasses.replace(binding, layout=Layout.VIDEO)).data,
        "expected a sealed request": seal(archive, example.clip.values.tobytes(), to),
        "s before this server's time": seal(
            dataclasses.replace(stale.header, time=stale.header.time - 400_000), b"anything", to
        ),
    }
    for words, data in cases.items():
        code, said = post(server, data)
        assert (code, words in said) == ("INVALID_ARGUMENT", True), (words, said)
    unknown = sealed(example, to, binding=dataclasses.replace(binding, salt="0" * 32)).data
    code, said = post(server, unknown)
    assert code in ("404", "NOT_FOUND")
    assert "has no key" in said


def test_more_clips_than_the_server_runs_are_refused(server: Server, example: Example, keys: Path, post: Post) -> None:
    values = np.repeat(example.clip.values, 5, axis=0)
    data = seal_request(values.tobytes(), clips=10, binding=example.clip.binding, to=public(keys), model=NAME).data
    code, words = post(server, data)
    assert (code, "1 to 8 clips" in words) == ("INVALID_ARGUMENT", True), words


class Meddler:
    """A proxy for HTTP on loopback that sees all, and changes answers as it is told."""

    def __init__(self, server: Server, change: Callable[[bytes], bytes]) -> None:
        import http.server
        import threading

        seen = self.seen = list[bytes]()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._forward(b"")

            def do_POST(self) -> None:
                self._forward(self.rfile.read(int(self.headers["Content-Length"])))

            def _forward(self, body: bytes) -> None:
                import http.client

                seen.append(body)
                onward = http.client.HTTPConnection(server.host, server.http, timeout=30)
                onward.request(self.command, self.path, body or None, dict(self.headers))
                answer = onward.getresponse()
                data = answer.read()
                seen.append(data)
                if self.command == "POST":
                    data = change(data)
                onward.close()
                self.send_response(answer.status)
                for name in (LENGTH, "Content-Type"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._listener.server_port}/{NAME}"
        threading.Thread(target=self._listener.serve_forever, daemon=True).start()

    def __enter__(self) -> Meddler:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()


def test_who_stands_in_between_sees_neither_clips_nor_logits(server: Server, example: Example, keys: Path) -> None:
    with (
        Meddler(server, lambda data: data) as meddler,
        RemoteSession(meddler.address, example.clip.binding, RemoteOptions(seal_to=public(keys))) as session,
    ):
        logits = session.run(example.clip)
    everything = b"".join(meddler.seen)
    assert len(everything) > example.clip.values.nbytes
    assert example.clip.values.tobytes()[500:532] not in everything
    assert logits.astype("<f4").tobytes()[:8] not in everything


@pytest.mark.parametrize("change", ["bit", "other", "plain", "cut"])
def test_a_changed_answer_is_refused(server: Server, example: Example, keys: Path, change: str) -> None:
    to, earlier = public(keys), list[bytes]()

    def meddle(data: bytes) -> bytes:
        earlier.append(data)
        if change == "bit":
            return changed(data, len(data) - 1)
        if change == "other":  # the answer to an earlier request
            return data[: data.index(MAGIC)] + earlier[0][earlier[0].index(MAGIC) :]
        if change == "cut":
            return data[:-1]
        return data.replace(b'"sealed"', b'"logits"')

    with (
        Meddler(server, meddle) as meddler,
        RemoteSession(meddler.address, example.clip.binding, RemoteOptions(seal_to=to, retries=0)) as session,
    ):
        if change == "other":
            np.testing.assert_allclose(session.run(example.clip), example.logits, atol=1e-5)
        with pytest.raises(LcveError) as caught:
            session.run(example.clip)
    expected = {"bit": "cannot be opened", "other": "another request", "plain": "did not seal", "cut": ""}[change]
    assert expected in str(caught.value)


def test_a_retry_is_sealed_again(exported: Path, example: Example, keys: Path) -> None:
    """The server closes the connection between two requests: the second goes over a new one, sealed anew."""
    with serving(exported / "server", "--open-with", keys / "old.key") as server:
        options = RemoteOptions(seal_to=public(keys), retries=0)
        with RemoteSession(server.address("http"), example.clip.binding, options) as session:
            session.run(example.clip)
            (transport,) = [member._transport for member in session._endpoints.members]
            (connection,) = transport._idle  # type: ignore[attr-defined]
            connection._raw.sock.shutdown(socket.SHUT_RDWR)
            np.testing.assert_allclose(session.run(example.clip), example.logits, atol=1e-5)


@pytest.fixture(scope="module")
def strict(exported: Path, keys: Path) -> Iterator[Server]:
    with serving(exported / "server", "--open-with", keys / "old.key", "--sealed-only") as server:
        yield server


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_can_demand_sealing(strict: Server, example: Example, keys: Path, protocol: str) -> None:
    ask = {"http": servers.ask_http, "grpc": servers.ask_grpc}[protocol]
    code, words = ask(strict, example.clip)
    assert code in (400, "INVALID_ARGUMENT")
    assert "accepts only sealed requests" in words
    address = strict.address(protocol)
    with RemoteSession(address, example.clip.binding, RemoteOptions(seal_to=public(keys))) as session:
        np.testing.assert_allclose(session.run(example.clip), example.logits, atol=1e-5)
    before = strict.value("lcve_requests_total", model=NAME)
    with (
        RemoteSession(address, example.clip.binding) as session,
        pytest.raises(MismatchError, match="nothing has been sent"),
    ):
        session.run(example.clip)
    assert strict.value("lcve_requests_total", model=NAME, code="INVALID_ARGUMENT") <= before


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_without_a_key_is_sent_nothing(
    exported: Path, example: Example, keys: Path, protocol: str, post: Post
) -> None:
    with serving(exported / "server") as server:
        with (
            RemoteSession(
                server.address(protocol), example.clip.binding, RemoteOptions(seal_to=public(keys))
            ) as session,
            pytest.raises(MismatchError, match="opens no sealed requests"),
        ):
            session.run(example.clip)
        code, words = post(server, sealed(example, public(keys)).data)
        assert (code, "opens no sealed requests" in words) == ("INVALID_ARGUMENT", True)


def test_keys_change_over_without_a_restart(exported: Path, example: Example, tmp_path: Path) -> None:
    first, second = SealingKey.create(), SealingKey.create()
    first.write(tmp_path / "a.key")
    with serving(exported / "server", "--open-with", tmp_path) as server:

        def answers(key: SealingKey) -> str:
            return post_http(server, sealed(example, key.public_key).data)[0]

        assert (answers(first), answers(second)) == ("OK", "INVALID_ARGUMENT")
        second.write(tmp_path / "b.key")
        server.signal(signal.SIGHUP)
        server.wait_for("sealing keys reloaded", keys=[key.public_key.fingerprint for key in (first, second)])
        assert (answers(first), answers(second)) == ("OK", "OK")
        (tmp_path / "a.key").unlink()
        server.signal(signal.SIGHUP)
        server.wait_for("sealing keys reloaded", keys=[second.public_key.fingerprint])
        assert (answers(first), answers(second)) == ("INVALID_ARGUMENT", "OK")
        (tmp_path / "b.key").unlink()
        (tmp_path / "b.key").write_bytes(b"damaged")
        (tmp_path / "b.key").chmod(0o600)
        server.signal(signal.SIGHUP)
        server.wait_for("files not reloaded; those read before stay in use", files="sealing keys")
        assert answers(second) == "OK"


def test_a_restarted_server_takes_nothing_of_before(exported: Path, example: Example, keys: Path, post: Post) -> None:
    with serving(exported / "server", "--open-with", keys / "old.key") as server:
        data = sealed(example, public(keys)).data
        assert post(server, data)[0] == "OK"
    with serving(exported / "server", "--open-with", keys / "old.key") as server:
        code, words = post(server, data)
        assert (code, "sealed before it started" in words) == ("INVALID_ARGUMENT", True), words


def test_log_and_metrics_hold_nothing_of_what_was_sealed(server: Server, example: Example, keys: Path) -> None:
    private = (keys / "old.key").read_text().splitlines()[1]
    question = sealed(example, public(keys))
    code, answer = post_grpc(server, question.data)
    assert code == "OK"
    logits = question.open_answer(answer, classes=example.logits.shape[1]).logits
    post_grpc(server, changed(sealed(example, public(keys)).data, 5000))
    assert server.log_file
    written = server.log_file.read_bytes() + server.get("/metrics", port=server.metrics)[1]
    assert b"answered" in written
    part = example.clip.values.tobytes()[:32]
    for secret in (part, logits[:8], question.key.public_key.raw, base64.b64decode(private)[-32:]):
        for form in (secret, secret.hex().encode(), base64.b64encode(secret).rstrip(b"=")):
            assert form not in written
    assert private.encode() not in written
    numbers = ", ".join(map(str, part[:8]))
    assert numbers.encode() not in written


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--sealed-only",), "--sealed-only needs --open-with"),
        (("--open-with", "missing.key"), "missing.key"),
        (("--open-with", "public"), "received a public key"),
        (("--open-with", "empty"), "one sealing key, or two"),
    ],
)
def test_a_server_does_not_start_with_keys_that_are_none(
    exported: Path, keys: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty").mkdir()
    places = {"public": keys / "old.pub", "empty": tmp_path / "empty", "missing.key": tmp_path / "missing.key"}
    given = [str(places.get(option, option)) for option in options]
    status, _, errors = servers.refused(f"{NAME}={exported / 'server'}", *map(str, servers.PORTS), *given)
    assert status in (1, 2)
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_run_seals_what_it_sends(
    strict: Server, exported: Path, key_file: Path, keys: Path, tmp_path: Path, protocol: str
) -> None:
    clip, sides = ORACLE / "clip_8x32x32.npy", ("--key", key_file, "--client", exported / "client")
    address = strict.address(protocol)
    run_ok("run", exported, clip, *sides[:2], "--logits-out", tmp_path / "here.npy")
    run_ok("run", address, clip, *sides, "--seal-to", keys / "old.pub", "--logits-out", tmp_path / "there.npy")
    np.testing.assert_allclose(np.load(tmp_path / "there.npy"), np.load(tmp_path / "here.npy"), atol=1e-5)
    assert "accepts only sealed requests" in run_error("run", address, clip, *sides)
    assert "--seal-to: only for a server" in run_error("run", exported, clip, *sides[:2], "--seal-to", keys / "old.pub")
    shared = ("--shared-memory", "--seal-to", keys / "old.pub")
    assert "shared memory or a key" in run_error("run", strict.address("grpc"), clip, *sides, *shared)


def test_a_clip_that_is_sealed_to_the_edge_is_sent_sealed_to_the_server(
    strict: Server, exported: Path, key: SecurityKey, key_file: Path, keys: Path, tmp_path: Path
) -> None:
    """From an archive: opened with one key, sealed to another."""
    owner = SealingKey.create()
    owner.write(tmp_path / "owner.key")
    sides = ("--key", key_file, "--client", exported / "client")
    run_ok(
        "encrypt", ORACLE / "clip_8x32x32.npy", *sides, "--seal-to", tmp_path / "owner.pub", "-o", tmp_path / "a.lcve"
    )
    opening = ("--open-with", tmp_path / "owner.key", "--seal-to", keys / "old.pub")
    assert "predictions" in run_ok("run", strict.address(), tmp_path / "a.lcve", *sides, *opening, "--json")


def test_errors_of_sealing_are_errors_of_requests(server: Server, example: Example, keys: Path) -> None:
    """Another key that the client was told is the server's."""
    options = RemoteOptions(seal_to=SealingKey.create().public_key, retries=0)
    for protocol in PROTOCOLS:
        with (
            RemoteSession(server.address(protocol), example.clip.binding, options) as session,
            pytest.raises(RequestError, match="sealed to the key"),
        ):
            session.run(example.clip)
    assert issubclass(SealingError, LcveError)


def test_a_server_that_opens_sealed_requests_loads_nothing_that_handles_the_key(
    exported: Path, example: Example, keys: Path, tmp_path: Path
) -> None:
    from tests.test_boundaries import key_rooms_in
    from tests.test_serving import SAY_MODULES

    place = tmp_path / "modules"
    before = SAY_MODULES.format(place=str(place))
    with serving(exported / "server", "--open-with", keys / "old.key", before=before, fresh=True) as server:
        assert post_grpc(server, sealed(example, public(keys)).data)[0] == "OK"
        assert server.end() == 0
    modules = set(place.read_text().split())
    assert {"lcve_deploy.serving.sealing", "lcve_deploy.sealing.keyring", "cryptography"} <= modules
    assert not key_rooms_in(modules)


def test_a_stream_answers_sealed_requests_and_refuses_others(strict: Server, example: Example, keys: Path) -> None:
    from lcve_deploy.protocol.stubs import messages

    question = sealed(example, public(keys))
    message = messages().ModelInferRequest(model_name=NAME, raw_input_contents=[question.data])
    message.inputs.add(name="sealed", datatype="UINT8", shape=[len(question.data)])
    with grpc_stub(strict) as stub:
        *twice, plain = stub.ModelStreamInfer(iter([message, message, servers.grpc_message(example.clip)]), timeout=30)
    answered, replayed = sorted(twice, key=lambda answer: answer.error_message)  # both are in progress at once
    data = answered.infer_response.raw_output_contents[0]
    logits = question.open_answer(data, classes=example.logits.shape[1]).logits
    np.testing.assert_allclose(np.frombuffer(logits, "<f4").reshape(2, -1), example.logits, atol=1e-5)
    assert "accepted before" in replayed.error_message
    assert "accepts only sealed requests" in plain.error_message


def test_watch_seals_what_it_sends(strict: Server, exported: Path, key_file: Path, keys: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "film.mp4", noisy_frames(40))
    arguments = ("watch", video, "--server", strict.address(), "--key", key_file, "--client", exported / "client")
    lines = run_ok(*arguments, "--json", "--windows", 2, "--seal-to", keys / "old.pub").splitlines()
    assert json.loads(lines[-1])["summary"]["answered"] == 2
    assert "accepts only sealed requests" in run_error(*arguments, "--windows", 2)


def test_a_worker_of_a_batch_seals_what_it_sends(
    strict: Server, exported: Path, key_file: Path, keys: Path, tmp_path: Path
) -> None:
    from lcve_deploy.verbs.batch.job import Job
    from lcve_deploy.verbs.batch.opened import OpenedKeys

    how: dict[str, Any] = {"key_file": key_file, "client": exported / "client", "server": strict.address()}
    video = make_video(tmp_path / "film.mp4", noisy_frames(20))
    sealing = Job(**how, remote=RemoteOptions(seal_to=public(keys)))
    assert OpenedKeys(sealing, None).classifier("").classify(video).predictions
    with pytest.raises(MismatchError, match="accepts only sealed requests"):
        OpenedKeys(Job(**how), None).classifier("")
