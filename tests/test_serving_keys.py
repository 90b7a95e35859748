"""``lcve serve`` with many keys: each clip under its own, and keys that come, change and go while a model runs."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy.artifact.names import KEY_MANIFEST, KEYED, KEYS
from lcve_deploy.errors import UnknownKeyError
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.remote import RemoteOptions, RemoteSession
from lcve_deploy.serving.telemetry.metrics import MAX_KEY_LABELS, Metrics
from tests.conftest import run_ok
from tests.support.artifacts import KEY, add_key, binding_of, edit_json, editing_key, flip_a_byte, key_folder
from tests.support.servers import (
    NAME,
    Example,
    Server,
    ask_grpc,
    ask_http,
    grpc_message,
    grpc_stub,
    http_body,
    make_example,
    request,
    serving,
    slow,
)

NAMES = tuple(f"camera-{number}" for number in range(5))
TOKEN, OTHER_TOKEN, FULL_TOKEN = "0123456789abcdef", "fedcba9876543210", "abcdefabcdef0123"
POLL = ("--poll", 0.05)


@pytest.fixture(scope="module")
def enrolled(exported: Path, key_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of five cameras, as ``lcve enroll`` makes them."""
    folder = tmp_path_factory.mktemp("enrolled")
    (folder / "names").write_text("\n".join(NAMES))
    run_ok("enroll", exported, "--key", key_file, "--names", folder / "names", "-o", folder / "cameras")
    return folder / "cameras"


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A model folder with its first key, to change."""
    return Path(shutil.copytree(exported / "server", tmp_path / "server"))


@pytest.fixture
def full(model: Path, enrolled: Path) -> Path:
    """A model folder with the keys of all cameras too."""
    for name in NAMES:
        add_key(model, enrolled / name / "server", name)
    return model


@pytest.fixture(scope="module")
def examples(exported: Path, enrolled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    """A clip of each key, with its logits."""
    folder = Path(shutil.copytree(exported / "server", tmp_path_factory.mktemp("all") / "server"))
    for name in NAMES:
        add_key(folder, enrolled / name / "server", name)
    return {name: make_example(folder, seed=seed, key=name) for seed, name in enumerate((KEY, *NAMES))}


def place(folder: Path, source: Path, name: str) -> None:
    """Put a key folder into place at once, as an operator does."""
    hidden = Path(shutil.copytree(source, folder / KEYS / f".{name}"))
    shutil.rmtree(key_folder(folder, name), ignore_errors=True)
    hidden.rename(key_folder(folder, name))


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def answers(server: Server, example: Example) -> bool:
    """Whether a clip is answered; an answer must be right."""
    code, logits = ask_grpc(server, example.clip)
    if code != "OK":
        return False
    np.testing.assert_allclose(logits, example.logits, atol=1e-5)
    return True


@contextmanager
def asking(server: Server, example: Example) -> Iterator[list[tuple[str, Any]]]:
    """Ask one clip again and again while the block runs; every answer must be right. Yields what was not answered."""
    refused: list[tuple[str, Any]] = []
    stop = threading.Event()

    def ask() -> int:
        count = 0
        while not stop.is_set():
            code, logits = ask_grpc(server, example.clip)
            count += 1
            if code != "OK":
                refused.append((code, logits))
            else:
                np.testing.assert_allclose(logits, example.logits, atol=1e-5)
        return count

    with ThreadPoolExecutor(1) as threads:
        work = threads.submit(ask)
        try:
            yield refused
        finally:
            stop.set()
        assert work.result() > 0


def test_clips_of_one_run_are_answered_under_their_own_keys(full: Path, examples: dict[str, Example]) -> None:
    with serving(full, "--max-batch", 6, "--queue-delay", 30_000) as server:
        with ThreadPoolExecutor(6) as threads:
            asked = list(threads.map(lambda example: ask_http(server, example.clip), examples.values()))
        for (status, logits), example in zip(asked, examples.values(), strict=True):
            assert status == 200, logits
            np.testing.assert_allclose(logits, example.logits, atol=1e-5)
        assert server.value("lcve_run_seconds_count") == 1
        for name in examples:
            assert server.value("lcve_key_clips_total", model=NAME, key=name) == 1
        for name in examples:
            server.wait_for("request answered", key=name)
        assert examples[KEY].clip.binding.salt not in json.dumps(server.log())


def test_keys_come_change_and_go_and_nothing_of_others_is_lost(
    model: Path, enrolled: Path, examples: dict[str, Example]
) -> None:
    name = NAMES[0]
    with serving(model, *POLL) as server, asking(server, examples[KEY]) as lost:
        code, text = ask_grpc(server, examples[name].clip)
        assert (code, "has no key" in text) == ("NOT_FOUND", True)
        place(model, enrolled / name / "server", name)
        until(lambda: answers(server, examples[name]), "the new key answers")
        with asking(server, examples[name]) as lost_of_changed:
            with editing_key(key_folder(model, name)) as manifest:
                manifest["made_by"]["changed"] = "1"
            server.wait_for_more("key ready", len(server.log()) - 1, key=name)
        assert not lost_of_changed
        shutil.rmtree(key_folder(model, name))
        until(lambda: ask_http(server, examples[name].clip)[0] == 404, "the key is refused")
        server.wait_for("key removed", key=name)
        assert b'key="camera-0"' not in server.get("/metrics", port=server.metrics)[1]
    assert not lost


def damage(folder: Path) -> None:
    flip_a_byte(folder / KEYED)


def make_foreign(folder: Path) -> None:
    edit_json(folder / KEY_MANIFEST, lambda manifest: manifest.update(model_sha256="0" * 64))


def give_wrong_tensors(folder: Path) -> None:
    """Tensors in order, which are not those that the probe was made with."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / KEYED)
    tensors["head.weight"] = np.ascontiguousarray(tensors["head.weight"][:, ::-1])
    save_file(tensors, folder / KEYED)
    with editing_key(folder):
        pass


def empty(folder: Path) -> None:
    (folder / KEY_MANIFEST).write_bytes(b"")


def enlarge(folder: Path) -> None:
    (folder / KEY_MANIFEST).write_bytes(b" " * 2**24)


FAULTS: dict[Callable[[Path], None], tuple[str, str]] = {
    damage: ("key not ready", "different SHA-256"),
    make_foreign: ("key refused", "was made for the model"),
    give_wrong_tensors: ("key not ready", "fails the probe"),
    empty: ("key refused", "is not JSON"),
    enlarge: ("key refused", "at most"),
}


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_a_bad_key_is_its_own_failure_alone(
    model: Path, enrolled: Path, examples: dict[str, Example], tmp_path: Path, fault: Callable[[Path], None]
) -> None:
    name, bad = NAMES[1], tmp_path / "bad"
    shutil.copytree(enrolled / name / "server", bad)
    fault(bad)
    event, reason = FAULTS[fault]
    with serving(model, *POLL) as server:
        place(model, bad, name)
        line = server.wait_for(event, key=name)
        assert reason in line["error"]
        assert ask_grpc(server, examples[name].clip)[0] == "NOT_FOUND"
        assert server.get("/v2/health/ready")[0] == 200
        assert answers(server, examples[KEY])
        until(lambda: server.value("lcve_keys", state="failed") == 1, "the failure is counted")
        time.sleep(0.3)  # several polls
        assert len([line for line in server.log() if line["event"] == event]) == 1
        assert b"camera-1" not in request(server.host, server.http, "POST", "/v2/repository/index", b"{}")[1]
        place(model, enrolled / name / "server", name)
        until(lambda: answers(server, examples[name]), "the key answers once its folder is in order")
        until(lambda: server.value("lcve_keys", state="failed") == 0, "no failure is left")


def test_the_pin_of_the_owner_holds_for_keys_that_come_later(
    exported: Path, key_file: Path, tmp_path: Path, enrolled: Path, examples: dict[str, Example]
) -> None:
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    service = Path(shutil.copytree(exported, tmp_path / "service"))
    run_ok("sign", service / "server", "--signing-key", tmp_path / "signing.pem")
    signed = ("--name", "signed", "-o", tmp_path / "signed", "--signing-key", tmp_path / "signing.pem")
    run_ok("enroll", service, "--key", key_file, *signed)
    model = service / "server"
    with serving(model, *POLL, "--signed-by", tmp_path / "signing.pub") as server:
        place(model, enrolled / NAMES[0] / "server", NAMES[0])
        assert "is not signed" in server.wait_for("key refused", key=NAMES[0])["error"]
        assert ask_grpc(server, examples[NAMES[0]].clip)[0] == "NOT_FOUND"
        place(model, tmp_path / "signed/server", "signed")
        server.wait_for("key ready", key="signed")
        assert answers(server, make_example(model, key="signed"))


def test_a_key_whose_files_broke_while_it_was_cold_fails_alone(full: Path, examples: dict[str, Example]) -> None:
    with serving(full, "--max-keys", 2) as server:
        broken = NAMES[0]
        damage(key_folder(full, broken))
        assert ask_grpc(server, examples[broken].clip)[0] == "NOT_FOUND"
        assert "different SHA-256" in server.wait_for("key not ready", key=broken)["error"]
        assert all(answers(server, examples[name]) for name in examples if name != broken)
        assert server.value("lcve_keys", state="ready") == 5


def test_a_key_that_goes_while_its_request_waits_fails_alone_in_the_run(
    full: Path, examples: dict[str, Example]
) -> None:
    gone = NAMES[0]
    with serving(full, *POLL, "--max-batch", 3, "--queue-delay", 60_000) as server, ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(ask_grpc, server, examples[name].clip) for name in (gone, KEY)]
        until(lambda: server.value("lcve_queue_clips") == 2, "both wait")
        shutil.rmtree(key_folder(full, gone))
        server.wait_for("key removed", key=gone)
        assert answers(server, examples[NAMES[1]])
        assert waiting[0].result()[0] == "NOT_FOUND"
        code, logits = waiting[1].result()
        assert code == "OK"
        np.testing.assert_allclose(logits, examples[KEY].logits, atol=1e-5)


def test_more_keys_than_rows_are_all_answered(full: Path, examples: dict[str, Example]) -> None:
    with serving(full, "--max-keys", 2, "--max-batch", 4) as server:

        def ask(seed: int) -> None:
            order = np.random.default_rng(seed).permutation(list(examples))
            for name in [*order, *order]:
                assert answers(server, examples[name]), name

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(ask, range(4)))
        assert server.value("lcve_keys", state="ready") == 6
        assert server.value("lcve_keys", state="hot") <= 2
        assert server.value("lcve_key_evictions_total") >= 4
        assert server.value("lcve_key_loads_total") > server.value("lcve_key_evictions_total")


def test_a_request_without_a_key_is_answered_if_there_is_only_one(
    model: Path, enrolled: Path, examples: dict[str, Example]
) -> None:
    def ask(server: Server) -> tuple[int, str]:
        body, headers = http_body(examples[KEY].clip, parameters={})
        status, answer = request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", body, headers)
        return status, answer.decode(errors="replace")

    with serving(model, *POLL) as server:
        assert ask(server)[0] == 200
        place(model, enrolled / NAMES[0] / "server", NAMES[0])
        server.wait_for("key ready", key=NAMES[0])
        status, text = ask(server)
        assert (status, "lcve_key_id" in text) == (400, True)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_session_says_that_the_server_does_not_have_the_key(
    model: Path, examples: dict[str, Example], protocol: str
) -> None:
    clip = examples[NAMES[0]].clip
    with (
        serving(model) as server,
        RemoteSession(server.address(protocol), clip.binding) as session,
        pytest.raises(UnknownKeyError, match="does not have the key") as caught,
    ):
        session.run(clip)
    assert clip.binding.salt not in str(caught.value)
    assert "ask the operator" in caught.value.hint


def authorized(server: Server, example: Example, token: str) -> tuple[str, str]:
    """Status and text of a request with a token."""
    import grpc

    with grpc_stub(server) as stub:
        try:
            stub.ModelInfer(grpc_message(example.clip), metadata=[("authorization", f"Bearer {token}")], timeout=30)
        except grpc.RpcError as error:
            return error.code().name, error.details() or ""
    return "OK", ""


def test_a_token_limited_to_keys_uses_no_other_and_learns_of_none(
    model: Path, enrolled: Path, examples: dict[str, Example], tmp_path: Path
) -> None:
    own, other, absent = (examples[name] for name in NAMES[:3])
    for name in NAMES[:2]:
        add_key(model, enrolled / name / "server", name)
    tokens = tmp_path / "tokens"
    lines = (
        f"one {TOKEN} {own.clip.binding.key_id}",
        f"two {OTHER_TOKEN} {other.clip.binding.key_id} {examples[KEY].clip.binding.key_id}",
        f"all {FULL_TOKEN}",
    )
    tokens.write_text("\n".join(lines))
    tokens.chmod(0o600)
    with serving(model, "--tokens", tokens) as server:
        assert authorized(server, own, TOKEN)[0] == authorized(server, other, OTHER_TOKEN)[0] == "OK"
        assert authorized(server, own, FULL_TOKEN)[0] == authorized(server, other, FULL_TOKEN)[0] == "OK"
        refused = [authorized(server, example, TOKEN) for example in (other, absent)]
        ids = [example.clip.binding.key_id for example in (other, absent)]
        shown = [(code, text.replace(key_id, "ID")) for (code, text), key_id in zip(refused, ids, strict=True)]
        assert shown[0] == shown[1]
        assert shown[0][0] == "NOT_FOUND"

        def get(path: str, token: str, verb: str = "GET") -> tuple[int, str]:
            headers = {"Authorization": f"Bearer {token}"}
            status, body = request(server.host, server.http, verb, path, b"{}" if verb == "POST" else None, headers)
            return status, body.decode()

        for path in (f"/v2/models/{NAME}", f"/v2/models/{NAME}/config"):
            status, text = get(path, TOKEN)
            assert status == 200
            assert not [name for name in NAMES if name in text]
            assert not [example for example in examples.values() if example.clip.binding.key_id in text]
        for verb, path in (
            ("GET", "/v2/models/stats"),
            ("GET", f"/v2/models/{NAME}/stats"),
            ("POST", f"/v2/repository/models/{NAME}/load"),
        ):
            assert get(path, TOKEN, verb)[0] == 403
            assert get(path, FULL_TOKEN, verb)[0] == 200

        def without_key(token: str) -> int:
            body, headers = http_body(own.clip, parameters={})
            headers["Authorization"] = f"Bearer {token}"
            return request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", body, headers)[0]

        assert [without_key(token) for token in (TOKEN, OTHER_TOKEN, FULL_TOKEN)] == [200, 400, 400]


def gated(gate: Path) -> str:
    """Code for ``before``: checks of keys do not end while a file is there."""
    return f"""
import pathlib, time
from lcve_deploy.runtime.banked import BankedSession
run_with = BankedSession.run_with
def gated(self, *given):
    while pathlib.Path({str(gate)!r}).exists():
        time.sleep(0.01)
    return run_with(self, *given)
BankedSession.run_with = gated
"""


def test_a_key_that_cannot_be_put_into_memory_fails_alone(
    model: Path, enrolled: Path, examples: dict[str, Example], tmp_path: Path
) -> None:
    """Its tensors do not fit, as on a GPU without memory, after its probe was right."""
    gate, (bad, good) = tmp_path / "gate", NAMES[:2]
    before = f"""
from lcve_deploy.errors import SessionError
from lcve_deploy.runtime.bank import KeyBank
put = KeyBank.put
def limited(self, key, tensors):
    if key.salt == {examples[bad].clip.binding.salt!r} and key.key_id == {examples[bad].clip.binding.key_id!r}:
        raise SessionError("the GPU has too little memory")
    return put(self, key, tensors)
KeyBank.put = limited
"""
    with serving(model, *POLL, before=gated(gate) + before) as server:
        gate.touch()
        for name in (bad, good):
            place(model, enrolled / name / "server", name)
        until(lambda: server.value("lcve_keys", state="checking") == 2, "both are checked")
        assert [ask_grpc(server, examples[name].clip)[0] for name in (bad, good)] == ["UNAVAILABLE"] * 2
        gate.unlink()
        assert "too little memory" in server.wait_for("key not ready", key=bad)["error"]
        server.wait_for("key ready", key=good)
        assert ask_grpc(server, examples[bad].clip)[0] == "NOT_FOUND"
        assert answers(server, examples[good])
        assert answers(server, examples[KEY])


def test_a_key_that_is_being_checked_is_refused_for_a_moment_and_comes_next(
    model: Path, enrolled: Path, examples: dict[str, Example], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with serving(model, *POLL, before=gated(gate)) as server:
        gate.touch()
        for name in NAMES:
            place(model, enrolled / name / "server", name)
        until(lambda: server.value("lcve_keys", state="checking") == len(NAMES), "all are checked")
        assert server.get("/v2/health/ready")[0] == 200
        last = NAMES[-1]
        code, text = ask_grpc(server, examples[last].clip)
        assert (code, "is being checked" in text) == ("UNAVAILABLE", True)
        gate.unlink()
        options = RemoteOptions(deadline=60, retries=1000, pause=0.05, max_pause=0.2)
        with RemoteSession(server.address(), examples[last].clip.binding, options) as session:
            np.testing.assert_allclose(session.run(examples[last].clip), examples[last].logits, atol=1e-5)
        for name in NAMES:
            server.wait_for("key ready", key=name)
        ready = [line["key"] for line in server.log() if line["event"] == "key ready"]
        assert ready.index(last) <= 2


def test_a_reload_and_a_new_version_lose_no_key(model: Path, enrolled: Path, examples: dict[str, Example]) -> None:
    import signal

    for name in NAMES[:2]:
        add_key(model, enrolled / name / "server", name)
    with serving(model) as server, asking(server, examples[NAMES[0]]) as lost:
        before = len(server.log())
        server.signal(signal.SIGHUP)
        server.wait_for_more("reload complete", before)
        assert answers(server, examples[NAMES[1]])
    assert not lost


def test_a_server_with_many_keys_is_ready_before_they_are_checked(
    model: Path, enrolled: Path, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    names = [f"c{number}" for number in range(200)]
    (tmp_path / "names").write_text("\n".join(names))
    run_ok("enroll", exported, "--key", key_file, "--names", tmp_path / "names", "-o", tmp_path / "many")
    for name in names:
        (tmp_path / "many" / name / "server").rename(key_folder(model, name))
    with serving(model, before=slow(0.025)) as server:
        assert server.get("/v2/health/ready")[0] == 200
        assert server.value("lcve_keys", state="checking") > 100
        wanted = make_example(model, key="c199")
        with RemoteSession(
            server.address(), wanted.clip.binding, RemoteOptions(deadline=60, retries=1000, pause=0.05, max_pause=0.2)
        ) as session:
            np.testing.assert_allclose(session.run(wanted.clip), wanted.logits, atol=1e-5)
        assert server.value("lcve_keys", state="checking") > 0
        until(lambda: server.value("lcve_keys", state="ready") == 201, "all keys are ready")


def test_labels_of_keys_are_bounded() -> None:
    metrics = Metrics()
    keys = metrics.of_keys("model")
    for number in range(MAX_KEY_LABELS + 50):
        keys.record_clips(f"camera-{number}", 1)
    text = metrics.render().decode()
    assert text.count("lcve_key_clips_total{") == MAX_KEY_LABELS + 1
    assert 'key="other",model="model"} 50.0' in text
    keys.forget("camera-0")
    keys.record_clips("camera-999", 1)
    text = metrics.render().decode()
    assert 'key="camera-999"' in text
    assert 'key="camera-0"' not in text


def test_a_model_states_no_key(model: Path) -> None:
    with serving(model) as server:
        config = json.loads(server.get(f"/v2/models/{NAME}/config")[1])
    stated = {name: value["string_value"] for name, value in config["parameters"].items()}
    whole = binding_to_parameters(binding_of(model))
    assert stated == {name: whole[name] for name in ("lcve_scheme", "lcve_geometry", "lcve_layout")}
