"""``lcve web`` without a browser: what it serves, to whom, and what it refuses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest

import lcve_deploy
from lcve_deploy import SealingKey
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.web.files import HEADERS, page_files
from tests.conftest import run_error, run_lcve
from tests.support.artifacts import random_clip
from tests.support.pages import WebPage, serving_page
from tests.support.servers import LENGTH, http_body, make_example, serving
from tests.test_boundaries import loaded_after

STATIC = Path(lcve_deploy.__file__).parent / "web/static"
INFER = "/v2/models/model/infer"


def headers_of(page: WebPage, path: str, **sent: str) -> dict[str, str]:
    connection = HTTPConnection("127.0.0.1", page.port, timeout=30)
    try:
        connection.request("GET", path, headers=sent)
        response = connection.getresponse()
        response.read()
        return {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()


def test_the_page_and_its_modules_are_served(page: WebPage) -> None:
    status, body = page.ask("/")
    assert (status, body) == (200, (STATIC / "index.html").read_bytes())
    for name in ("/page.js", "/client/index.js", "/client/video/index.js", "/style.css", "/icon.svg"):
        assert page.ask(name)[0] == 200
    for name in ("/client/../page.js", "/index", "/static/page.js", "/key.bin", "/models.py"):
        assert page.ask(name)[0] == 404


def test_every_file_of_the_page_is_served_and_every_import_is_a_file_of_it() -> None:
    files = page_files()
    on_disk = {f"/{path.relative_to(STATIC)}" for path in STATIC.glob("*.*")}
    on_disk |= {f"/client/{path.relative_to(STATIC / 'client')}" for path in (STATIC / "client").glob("**/*.js")}
    assert set(files) == {"/", *on_disk}
    for address, (path, _) in files.items():
        for imported in (
            re.findall(r'\bfrom "([^"]+)"', path.read_text(encoding="utf-8")) if path.suffix == ".js" else []
        ):
            assert (path.parent / imported).resolve().is_file(), (address, imported)


def test_every_response_has_the_strict_headers(page: WebPage) -> None:
    for path in ("/", "/page.js", "/worker.js", "/client.json", "/none", "/v2/models/model"):
        found = headers_of(page, path)
        assert {name: found.get(name.lower()) for name in HEADERS} == dict(HEADERS)
        assert found["server"] == "lcve-deploy"
    policy = HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|https?:|data:|\*", policy)


def test_the_page_names_no_other_place() -> None:
    for address, (path, _) in page_files().items():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(src|href|fetch|import|url)\W{1,3}https?://", text), address


def test_the_client_file_of_the_artifact_is_served(page: WebPage, exported: Path) -> None:
    assert page.ask("/client.json") == (200, (exported / "client/client.json").read_bytes())
    assert json.loads(page.ask("/place.json")[1]) == {"place": "this machine", "wire": "", "client": True}


def test_without_a_client_folder_the_user_chooses_the_file(exported: Path) -> None:
    with serving_page(exported / "server") as page:
        assert page.ask("/client.json")[0] == 404
        assert json.loads(page.ask("/place.json")[1])["client"] is False


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", ""])
def test_other_host_names_are_refused(page: WebPage, host: str) -> None:
    for path in ("/", "/client.json", "/v2/models/model"):
        status, body = page.ask(path, headers={"Host": host})
        assert status == 403
        assert "host name" in json.loads(body)["error"]


def test_other_pages_are_refused(page: WebPage, exported: Path) -> None:
    body, headers = http_body(random_clip(exported / "server"))
    for sent in ({"Origin": "http://evil.test"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert page.ask(INFER, verb="POST", body=body, headers={**headers, **sent})[0] == 403
    own = {"Origin": page.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert page.ask(INFER, verb="POST", body=body, headers={**headers, **own})[0] == 200


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(page: WebPage) -> None:
    sent = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert page.ask("/", headers=sent)[0] == 200
    assert page.ask("/client.json", headers=sent)[0] == 403


def test_logits_are_those_of_a_session(page: WebPage, exported: Path) -> None:
    example = make_example(exported / "server", clips=3)
    body, headers = http_body(example.clip)
    status, answer = page.ask(INFER, verb="POST", body=body, headers=headers)
    assert status == 200
    length = len(answer) - example.logits.nbytes
    logits = np.frombuffer(answer[length:], "<f4").reshape(example.logits.shape)
    np.testing.assert_allclose(logits, example.logits, rtol=1e-5, atol=1e-5)


def test_logits_of_a_server_are_passed_on_with_what_they_took(exported: Path, tmp_path: Path) -> None:
    example = make_example(exported / "server", clips=2)
    body, headers = http_body(example.clip)
    SealingKey.create().write(tmp_path / "serve.key")
    with serving(exported / "server", "--open-with", tmp_path / "serve.key") as server:
        for protocol, more, wire in (
            ("grpc", (), "gRPC, not sealed"),
            ("http", ("--seal-to", tmp_path / "serve.pub"), "HTTP, sealed"),
        ):
            with serving_page(server.address(protocol), *more) as page:
                assert json.loads(page.ask("/place.json")[1])["wire"] == wire
                status, answer, said = page.exchange(INFER, body, headers)
            assert status == 200
            logits = np.frombuffer(answer[-example.logits.nbytes :], "<f4").reshape(example.logits.shape)
            np.testing.assert_allclose(logits, example.logits, rtol=1e-5, atol=1e-5)
            times = dict(re.findall(r"([a-z]+);dur=([0-9.]+)", said["server-timing"]))
            assert 0 < float(times["server"]) <= float(times["model"])
            assert example.clip.values.nbytes < int(said["lcve-sent-bytes"]) < example.clip.values.nbytes + 2048


def test_invalid_requests_get_one_clear_error(page: WebPage, exported: Path) -> None:
    clip = random_clip(exported / "server")
    body, headers = http_body(clip)
    binding = binding_to_parameters(clip.binding)
    for changed, words in (
        ({"parameters": {}}, "expected the binding"),
        ({"parameters": {**binding, "lcve_geometry": "1x1"}}, "binding in the parameters is invalid"),
        ({"inputs": []}, "expected one binary UINT8 tensor"),
        (
            {"inputs": [{"name": "clips", "datatype": "UINT8", "shape": [1, 64, 384], "data": [1]}]},
            "expected one binary",
        ),
    ):
        data = b"" if "inputs" in changed else clip.values.tobytes()
        head = json.dumps({**json.loads(body[: int(headers[LENGTH])]), **changed}).encode()
        status, answer = page.ask(INFER, verb="POST", body=head + data, headers={**headers, LENGTH: str(len(head))})
        assert status == 400
        assert words in json.loads(answer)["error"]
    assert page.ask(INFER, verb="POST", body=b"{", headers=headers)[0] == 400
    assert page.ask(INFER, verb="POST", body=body, headers={**headers, "Content-Encoding": "gzip"})[0] == 400


def test_the_description_is_of_the_artifact_that_the_page_names(page: WebPage, exported: Path) -> None:
    binding = random_clip(exported / "server").binding
    fields = binding_to_parameters(binding)
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    status, answer = page.ask(f"/v2/models/model/config?{query}")
    assert status == 200
    assert json.loads(answer)["parameters"]["lcve_key_id"] == {"string_value": binding.key_id}
    status, answer = page.ask(f"/v2/models/model?{query.replace(binding.key_id, '0' * 32)}")
    assert (status, json.loads(answer)["lcve_error"]) == (404, "unknown_key")
    assert page.ask("/v2/models/model")[0] == 400


def test_options_that_cannot_be_are_errors_of_usage(exported: Path, tmp_path: Path) -> None:
    assert "only for a server" in run_error("web", exported, "--token-file", tmp_path)
    assert "only for an artifact" in run_error("web", "grpc://127.0.0.1:9/m", "--engine", "fast")
    assert "expected a host name" in run_error("web", exported, "--allow-host", "a:80")
    assert "manifest.json" in run_error("web", tmp_path)
    assert run_lcve("web", exported, "--client", tmp_path).exit_code == 1


def test_the_command_loads_nothing_that_could_use_a_key() -> None:
    loaded = loaded_after("import lcve_deploy.web.server, lcve_deploy.web.models, lcve_deploy.cli.web")
    assert not {name for name in loaded if name.startswith(("lcve_deploy.keys", "lcve_deploy.cipher", "torch"))}


def test_serve_never_hosts_the_page(exported: Path) -> None:
    """Those who serve the page that gets the key could take it, so the operator's server has no file of it."""
    code = "import lcve_deploy.cli.serve, lcve_deploy.serving.server, lcve_deploy.serving.http.app"
    assert not {name for name in loaded_after(code) if name.startswith("lcve_deploy.web")}
    with serving(exported / "server") as server:
        for path in ("/", "/index.html", "/page.js", "/client/index.js"):
            assert server.get(path)[0] == 404


def test_it_ends_when_it_is_told(exported: Path) -> None:
    with serving_page(exported) as page:
        page.process.terminate()
        assert page.process.wait(30) == 0


def test_a_port_that_is_taken_is_one_error(page: WebPage, exported: Path) -> None:
    code = "import sys; from lcve_deploy.cli import lcve; lcve(sys.argv[1:])"
    command = [sys.executable, "-c", code, "web", str(exported), "--port", str(page.port)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "cannot listen" in ended.stderr
    assert "--port 0" in ended.stderr
    assert "Traceback" not in ended.stderr
