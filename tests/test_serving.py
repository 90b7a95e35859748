"""``lcve serve`` as a process: what it serves, says, counts and logs, and what it must never have loaded."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.errors import UnknownKeyError
from lcve_deploy.remote import RemoteSession
from tests.conftest import ORACLES, run_error, run_ok
from tests.support.servers import NAME, Example, Server, ask_grpc, ask_http, make_example, refused, serving
from tests.test_boundaries import key_rooms_in

SAY_MODULES = """
import atexit, sys
atexit.register(lambda: open({place!r}, "w").write("\\n".join(sys.modules)))
"""


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def server(exported: Path) -> Iterator[Server]:
    with serving(exported / "server", "--log-level", "info") as server:
        yield server


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the same geometry with another key and another model."""
    folder, oracle = tmp_path_factory.mktemp("other"), ORACLES["v1_gamma"]
    SecurityKey(bytes(32)).write(folder / "other.bin")
    run_ok(
        *("export", "--key", folder / "other.bin", "--ckpt", oracle.path, "-o", folder / "service"),
        *(*oracle.flags, "--stride", 1),
    )
    return folder / "service"


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def answers_like(server: Server, example: Example) -> bool:
    """Whether the logits over gRPC are the example's."""
    code, logits = ask_grpc(server, example.clip)
    return code == "OK" and np.allclose(logits, example.logits, atol=1e-5)


def test_logits_are_those_of_a_session_over_both_protocols(server: Server, example: Example) -> None:
    for code, logits in (ask_http(server, example.clip), ask_grpc(server, example.clip)):
        assert code in (200, "OK")
        np.testing.assert_allclose(logits, example.logits, atol=1e-5)


def test_the_running_server_has_loaded_no_key_room_and_no_heavy_library(
    exported: Path, example: Example, tmp_path: Path
) -> None:
    place = tmp_path / "modules"
    with serving(exported / "server", before=SAY_MODULES.format(place=str(place)), fresh=True) as server:
        assert answers_like(server, example)
        assert ask_http(server, example.clip)[0] == 200
        assert server.end() == 0
    modules = set(place.read_text().split())
    assert "lcve_deploy.serving.server" in modules
    assert "onnxruntime" in modules
    assert not key_rooms_in(modules)
    assert not modules & {"torch", "transformers", "onnx", "av", "cryptography"}


def test_a_clip_for_another_artifact_is_refused_with_the_reason(server: Server, other: Path) -> None:
    wrong = make_example(other / "server")
    status, text = ask_http(server, wrong.clip)
    assert (status, "has no key" in text) == (404, True)
    code, text = ask_grpc(server, wrong.clip)
    assert (code, "has no key" in text) == ("NOT_FOUND", True)
    with pytest.raises(UnknownKeyError), RemoteSession(server.address(), wrong.clip.binding) as session:
        session.run(wrong.clip)


def test_several_models_with_several_keys(exported: Path, other: Path, example: Example) -> None:
    with serving(exported / "server", f"second={other / 'server'}") as server:
        for name, wanted in ((NAME, example), ("second", make_example(other / "server"))):
            with RemoteSession(server.address(name=name), wanted.clip.binding) as session:
                np.testing.assert_allclose(session.run(wanted.clip), wanted.logits, atol=1e-5)
        status, index = server_index(server)
        assert status == 200
        assert [(row["name"], row["state"]) for row in index] == [(NAME, "READY"), ("second", "READY")]


def server_index(server: Server) -> tuple[int, list[dict[str, str]]]:
    from tests.support.servers import request

    status, body = request(server.host, server.http, "POST", "/v2/repository/index", b"{}")
    return status, json.loads(body)


def test_a_new_version_takes_over_and_a_broken_one_does_not(exported: Path, other: Path, tmp_path: Path) -> None:
    versions, first, second = tmp_path / "versions", make_example(exported / "server"), make_example(other / "server")
    shutil.copytree(exported / "server", versions / "1")
    with serving(versions, "--poll", 0.05) as server:
        assert answers_like(server, first)
        broken = Path(shutil.copytree(other / "server", versions / ".broken"))
        (broken / "model.onnx").write_bytes(b"broken")
        broken.rename(versions / "2")
        line = server.wait_for("model not loaded", version=2)
        assert line["still_served"] == [1]
        assert answers_like(server, first)
        assert [(row["version"], row["state"]) for row in server_index(server)[1]] == [
            ("1", "READY"),
            ("2", "UNAVAILABLE"),
        ]
        shutil.copytree(other / "server", versions / ".good").rename(versions / "3")
        until(lambda: answers_like(server, second), "version 3 answers")
        server.wait_for("model retired", version="1")
        assert server.get(f"/v2/models/{NAME}/versions/1/ready")[0] == 400
        assert server.get(f"/v2/models/{NAME}/versions/3/ready")[0] == 200
        assert server.value("lcve_model_version") == 3
        shutil.rmtree(versions / "3")
        shutil.rmtree(versions / "2")
        until(lambda: answers_like(server, first), "version 1 is back")


def test_older_versions_stay_where_they_are_asked_for(exported: Path, other: Path, tmp_path: Path) -> None:
    for number, folder in ((1, exported), (7, other), (9, exported)):
        shutil.copytree(folder / "server", tmp_path / str(number))
    second = make_example(other / "server")
    with serving(tmp_path, "--versions", 2) as server:
        metadata = json.loads(server.get(f"/v2/models/{NAME}")[1])
        assert metadata["versions"] == ["7", "9"]
        with RemoteSession(f"{server.address()}/7", second.clip.binding) as session:
            np.testing.assert_allclose(session.run(second.clip), second.logits, atol=1e-5)
        assert server.get(f"/v2/models/{NAME}/versions/1")[0] == 404


def test_health_is_open_and_everything_else_wants_a_token(exported: Path, example: Example, tmp_path: Path) -> None:
    from tests.support.servers import http_body, request

    tokens = tmp_path / "tokens"
    tokens.write_text("camera-7 0123456789abcdef\n")
    tokens.chmod(0o600)
    with serving(exported / "server", "--tokens", tokens) as server:
        for port in (server.http, server.metrics):
            for path in ("/v2/health/live", "/v2/health/ready"):
                assert server.get(path, port=port)[0] == 200
        for path in ("/v2", f"/v2/models/{NAME}", f"/v2/models/{NAME}/ready", "/v2/models/stats"):
            assert server.get(path)[0] == 401
        assert ask_http(server, example.clip)[0] == 401
        assert ask_grpc(server, example.clip)[0] == "UNAUTHENTICATED"
        body, headers = http_body(example.clip)
        headers["Authorization"] = "Bearer 0123456789abcdef"
        assert request(server.host, server.http, "POST", f"/v2/models/{NAME}/infer", body, headers)[0] == 200
        assert server.wait_for("request answered", call="ModelInfer")["client"] == "camera-7"
        assert "0123456789abcdef" not in json.dumps(server.log())


def test_metrics_and_log_say_what_happened_and_hold_no_tensor(exported: Path, example: Example) -> None:
    with serving(exported / "server") as server:
        for _ in range(3):
            assert ask_http(server, example.clip)[0] == 200
        assert ask_grpc(server, example.clip)[0] == "OK"
        server.get("/v2/models/made-up-by-a-client")
        assert server.value("lcve_requests_total", model=NAME, protocol="http", code="OK") == 3
        assert server.value("lcve_requests_total", model=NAME, protocol="grpc", code="OK") == 1
        assert server.value("lcve_clips_total", model=NAME, version="1") == 4
        assert server.value("lcve_run_seconds_count", model=NAME) == server.value("lcve_batch_clips_count") == 4
        assert server.value("lcve_requests_total", code="NOT_FOUND", model="") == 1
        assert server.value("lcve_queue_clips") == server.value("lcve_pending_requests") == 0
        _, text = server.get("/metrics", port=server.metrics)
        assert b"made-up" not in text
        line = server.wait_for("request answered", call="ModelInfer", protocol="grpc")
        assert {"time", "level", "client", "model", "version", "clips", "code", "ms"} <= set(line)
        assert all(len(json.dumps(line)) < 1000 for line in server.log())


def test_the_probe_is_asked_before_anything_is_served(exported: Path, tmp_path: Path) -> None:
    from lcve_deploy.runtime.backends.onnxruntime import OnnxRuntimeSession

    shifted = f"""
from lcve_deploy.runtime.backends.onnxruntime import {OnnxRuntimeSession.__name__} as Session
compute = Session._compute
Session._compute = lambda self, *given: compute(self, *given) + 1
"""
    with pytest.raises(AssertionError, match="fails the probe"), serving(exported / "server", before=shifted):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing-here",), "neither a manifest.json nor"),
        (("a b=x",), "a model's name"),
        (("x=a", "x=b"), "two models are called x"),
        (("{server}", "--tls-cert", "x"), "used together"),
        (("{server}", "--tls-cert", "x", "--tls-key", "y"), "No such file"),
        (("{server}", "--tokens", "nothing"), "No such file"),
        (("{server}", "--max-batch", "9", "--max-queue", "8"), "--max-queue must be at least"),
        (("{server}", "--host", "203.0.113.1"), "cannot listen"),
        (("{server}", "--engine", "none-such"), "none-such"),
    ],
)
def test_what_cannot_be_served_is_one_clear_error(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [argument.replace("{server}", str(exported / "server")) for argument in arguments]
    ports = [f"--{name}-port=0" for name in ("http", "grpc", "metrics")]
    status, output, errors = refused(*filled, *ports)
    assert status in (1, 2)
    assert "Traceback" not in errors
    assert "this is a bug" not in errors
    assert words in errors
    assert output == ""


def test_a_server_open_to_others_without_tls_and_tokens_is_warned_of(exported: Path) -> None:
    with serving(exported / "server", "--host", "0.0.0.0") as server:  # noqa: S104 (it is what is warned of)
        warned = [line["raw"] for line in server.log() if line["event"] == "raw"]
        assert any("other machines can connect" in line and "--tokens" in line for line in warned)


def test_the_pin_of_the_owner_holds_for_servers_too(exported: Path, tmp_path: Path) -> None:
    run_ok("keygen", "--signing", "-o", tmp_path / "signing.pem")
    folder = Path(shutil.copytree(exported, tmp_path / "service"))
    pin = ("--signed-by", tmp_path / "signing.pub")
    with pytest.raises(AssertionError, match=r"manifest\.sig|not signed|signature"), serving(folder / "server", *pin):
        pass
    run_ok("sign", folder / "server", "--signing-key", tmp_path / "signing.pem")
    with serving(folder / "server", *pin) as server:
        assert server.get("/v2/health/ready")[0] == 200


def test_serve_takes_no_key(exported: Path, key_file: Path) -> None:
    assert "no such option" in run_error("serve", exported / "server", "--key", key_file).lower()
