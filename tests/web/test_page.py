"""The page of ``lcve web`` in a real Chromium, from key file to prediction."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.video.decode import load_av
from tests.conftest import SECRET, run_ok
from tests.support.browser import Browser
from tests.support.pages import WebPage, serving_page
from tests.support.servers import serving
from tests.web.conftest import film

DONE = "document.querySelector('#status').textContent.startsWith('Done') || !document.querySelector('#error').hidden"
OPENED = "!document.querySelector('#forget').disabled || !document.querySelector('#error').hidden"
REMOTE_STEPS = ["Encrypting", "Server", "Network to the server", "Between page and lcve web"]
NO_STREAM = "MediaStreamTrackProcessor = undefined"
TOKEN = "page-0123456789abcdef"
IS_SHOWN = "() => document.querySelector('#quality').checkVisibility()"
"""Whether there is a choice of quality."""


def open_key(browser: Browser, page: WebPage, key: Path, **options: object) -> None:
    browser.open(page.url, **options)  # type: ignore[arg-type]
    browser.files("#key-file", key)
    browser.wait(OPENED)


def classify(browser: Browser, video: Path, button: str = "#classify") -> list[list[str]]:
    """Classify a video; the rows of the predictions."""
    browser.files("#video-file", video)
    browser.click(button)
    browser.wait(DONE)
    assert browser.text("#error") == ""
    return browser.rows("#predictions")


def run_on_saved_clip(browser: Browser, exported: Path, key: Path, folder: Path) -> list[list[str]]:
    """What ``lcve run`` says of the clip that the page has sent."""
    browser.download("#save", folder / "clip.lcve")
    given = json.loads(run_ok("run", exported, folder / "clip.lcve", "--key", key, "--json"))
    return [[entry["name"], f"{100 * entry['probability']:.2f}%"] for entry in given["predictions"]]


def test_predictions_of_a_file_are_those_of_lcve_run_on_the_same_frames(
    browser: Browser, page: WebPage, exported: Path, key_file: Path, video: Path, tmp_path: Path
) -> None:
    open_key(browser, page, key_file)
    shown = classify(browser, video)
    assert browser.evaluate(IS_SHOWN) is False
    assert shown == run_on_saved_clip(browser, exported, key_file, tmp_path)
    of_video = json.loads(run_ok("run", exported, video, "--key", key_file, "--json"))
    assert shown[0][0] == of_video["predictions"][0]["name"]


def test_every_window_of_a_file_is_in_the_history(
    browser: Browser, page: WebPage, exported: Path, key_file: Path, video: Path
) -> None:
    open_key(browser, page, key_file)
    classify(browser, video, "#watch")
    history = browser.rows("#history")
    assert [row[0] for row in history] == [f"film.mp4, frame {first}" for first in (24, 16, 8, 0)]
    assert browser.text("#clips") == "4"


@pytest.fixture(scope="module")
def camera_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Film as a camera of Chromium."""
    av = load_av()
    path = tmp_path_factory.mktemp("camera") / "camera.y4m"
    with av.open(str(path), "w", format="yuv4mpegpipe") as container:
        stream = container.add_stream("wrapped_avframe", rate=15)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        for image in film():
            container.mux(
                stream.encode(
                    av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(format="yuv420p")
                )
            )
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("frames", ["as a stream", "one by one"])
def test_predictions_of_a_camera_are_those_of_lcve_run_on_the_same_frames(
    browser: Browser, page: WebPage, exported: Path, key_file: Path, camera_file: Path, tmp_path: Path, frames: str
) -> None:
    """One by one, as in Firefox, which cannot pass a stream of frames to a worker."""
    open_key(browser, page, key_file, camera=camera_file)
    if frames == "one by one":
        browser.evaluate(f"() => {{ {NO_STREAM} }}")
    browser.click("#camera")
    browser.wait(
        "Number(document.querySelector('#clips').textContent) >= 3 || !document.querySelector('#error').hidden"
    )
    browser.click("#stop")
    browser.wait(DONE)
    assert browser.text("#error") == ""
    assert browser.rows("#predictions") == run_on_saved_clip(browser, exported, key_file, tmp_path)
    assert browser.rows("#history")[0][0].startswith("camera, frame ")
    assert [row[0] for row in browser.rows("#times")] == ["Encrypting", "Model", "Between page and lcve web"]
    assert [row[0] for row in browser.rows("#wires")] == ["Page to lcve web"]


NO_CAMERA = {
    "the camera cannot be used": "navigator.mediaDevices.getUserMedia = async () => { throw new Error('refused'); }",
    "cannot pass camera frames to a worker": f"{NO_STREAM}; VideoFrame = undefined",
}


@pytest.mark.parametrize("words", NO_CAMERA)
def test_a_camera_that_cannot_be_used_is_one_clear_message(
    browser: Browser, page: WebPage, key_file: Path, video: Path, words: str
) -> None:
    open_key(browser, page, key_file)
    browser.evaluate(f"() => {{ {NO_CAMERA[words]} }}")
    browser.click("#camera")
    browser.wait("!document.querySelector('#error').hidden")
    assert words in browser.text("#error")
    assert classify(browser, video)


def test_the_pictures_are_of_the_clip(browser: Browser, page: WebPage, key_file: Path, video: Path) -> None:
    open_key(browser, page, key_file)
    browser.media(reducedMotion="reduce")
    classify(browser, video)
    pixels = {name: canvas_pixels(browser, name) for name in ("plain", "encrypted", "decrypted")}
    assert len(set(pixels["plain"])) > 1
    assert pixels["decrypted"] == pixels["plain"]
    assert pixels["encrypted"] != pixels["plain"]


def canvas_pixels(browser: Browser, name: str) -> str:
    code = """async (name) => {
      await new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)));
      return document.getElementById(name).toDataURL();
    }"""
    address: str = browser.evaluate(code, name)
    return address


def test_the_key_leaves_the_page_in_no_request_and_nothing_goes_elsewhere(
    browser: Browser, page: WebPage, key_file: Path, video: Path
) -> None:
    open_key(browser, page, key_file)
    classify(browser, video)
    browser.click("#attack")
    browser.click("#forget")
    own = urlsplit(page.url).netloc
    assert {urlsplit(request["url"]).netloc for request in browser.requests if request["url"].startswith("http")} == {
        own
    }
    assert {urlsplit(request["url"]).scheme for request in browser.requests} <= {"http", "blob"}
    file = key_file.read_bytes()
    forms = {secret_form for part in (file, SECRET, SECRET[:16], SECRET[16:]) for secret_form in forms_of(part)}
    sent = [request["url"] + request["body"] for request in browser.requests]
    assert any("/infer" in text for text in sent)
    for text in sent:
        head, _, body = text.rpartition("}")
        raw = base64.b64decode(body or b"")
        assert not any(form in head.encode() or form in raw for form in forms)
    assert browser.console == []
    assert browser.evaluate("() => [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert browser.evaluate("async () => (await indexedDB.databases()).length + (await caches.keys()).length") == 0


def forms_of(secret: bytes) -> set[bytes]:
    """Bytes of a secret as they could travel."""
    return {
        secret,
        secret.hex().encode(),
        base64.b64encode(secret).rstrip(b"="),
        base64.urlsafe_b64encode(secret).rstrip(b"="),
    }


def test_forget_key_leaves_nothing_on_the_page(browser: Browser, page: WebPage, key_file: Path, video: Path) -> None:
    open_key(browser, page, key_file)
    key_id = SecurityKey.read(key_file).key_id
    assert key_id in browser.text("#key-id")
    classify(browser, video)
    browser.click("#forget")
    text = browser.text("body")
    assert key_id not in text
    assert "film.mp4" not in text
    assert browser.rows("#predictions") == []
    assert browser.evaluate("() => document.querySelector('#key-file').files.length") == 0
    assert browser.evaluate("() => document.querySelector('#classify').disabled") is True
    browser.files("#key-file", key_file)
    browser.wait(OPENED)
    assert classify(browser, video)


def test_a_thief_who_knows_one_clip_opens_the_next(
    browser: Browser, page: WebPage, key_file: Path, video: Path
) -> None:
    open_key(browser, page, key_file)
    classify(browser, video)
    browser.click("#attack")
    browser.wait("document.querySelector('#thief-result').textContent")
    assert "needs two different clips" in browser.text("#thief-result")
    classify(browser, video, "#watch")
    browser.click("#attack")
    browser.wait("document.querySelector('#thief-result').textContent.includes('%')")
    share = float(browser.text("#thief-result").split("%")[0])
    assert share > 90


def error_after_key(browser: Browser, page: WebPage, key: Path, client: Path | None = None) -> str:
    browser.open(page.url)
    if client:
        browser.files("#client-file", client)
    browser.files("#key-file", key)
    browser.wait(OPENED)
    return browser.text("#error")


def test_a_wrong_key_or_file_is_one_clear_message(browser: Browser, page: WebPage, tmp_path: Path, video: Path) -> None:
    SecurityKey(bytes(32)).write(tmp_path / "other.bin")
    (tmp_path / "damaged.bin").write_bytes((tmp_path / "other.bin").read_bytes()[:-1] + b"x")
    assert "the key does not belong to this artifact" in error_after_key(browser, page, tmp_path / "other.bin")
    assert "checksum does not match" in error_after_key(browser, page, tmp_path / "damaged.bin")
    assert "not a key file" in error_after_key(browser, page, video)
    assert browser.console == []


def test_a_file_that_is_no_video_is_one_clear_message(
    browser: Browser, page: WebPage, key_file: Path, video: Path, tmp_path: Path
) -> None:
    open_key(browser, page, key_file)
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:400])
    (tmp_path / "empty.mp4").write_bytes(b"")
    for path, words in (
        (key_file, "another kind of file"),
        (tmp_path / "cut.mp4", "cut off"),
        (tmp_path / "empty.mp4", "is empty"),
    ):
        browser.files("#video-file", path)
        browser.click("#classify")
        browser.wait(DONE)
        assert words in browser.text("#error")
    assert classify(browser, video)


@pytest.fixture
def other_model(exported: Path, tmp_path: Path) -> Path:
    """``client.json`` of a model with another geometry."""
    content = json.loads((exported / "client/client.json").read_text())
    geometry = ClipGeometry.parse(content["geometry"])
    content["geometry"] = str(geometry).replace("/2x", "/4x")
    path = tmp_path / "client.json"
    path.write_text(json.dumps(content))
    return path


def test_another_model_is_one_clear_message(
    browser: Browser, exported: Path, key_file: Path, other_model: Path
) -> None:
    with serving_page(exported / "server") as page:
        error = error_after_key(browser, page, key_file, other_model)
    assert "does not belong to this model" in error
    assert "geometry" in error


def inference_bytes(browser: Browser) -> int:
    """Bytes of the body of the only inference request of the page."""
    (body,) = [sent["body"].rpartition("}")[2] for sent in browser.requests if sent["url"].endswith("/infer")]
    return len(base64.b64decode(body))


@pytest.fixture
def locked(exported: Path, tmp_path: Path) -> Iterator[str]:
    """Address of a server that wants a token."""
    (tmp_path / "tokens").write_text(f"page {TOKEN}\n")
    (tmp_path / "tokens").chmod(0o600)
    with serving(exported / "server", "--tokens", tmp_path / "tokens") as server:
        yield server.address()


def test_a_missing_token_is_one_clear_message_and_a_right_one_stays_in_python(
    browser: Browser, exported: Path, key_file: Path, locked: str, video: Path, tmp_path: Path
) -> None:
    client = ("--client", exported / "client", "--retries", 0)
    with serving_page(locked, *client) as page:
        assert "token" in error_after_key(browser, page, key_file)
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    with serving_page(locked, *client, "--token-file", tmp_path / "token") as page:
        open_key(browser, page, key_file)
        assert classify(browser, video)
        assert browser.text("#key-known") == "has this key"
        assert [row[0] for row in browser.rows("#times")] == REMOTE_STEPS
        to_page, to_server = browser.rows("#wires")
        assert (to_page[0], to_server[0]) == ("Page to lcve web", "lcve web to the server: gRPC, not sealed")
        assert int(to_page[1].replace(",", "")) == inference_bytes(browser)
        assert not any(TOKEN in request["body"] for request in browser.requests)


def test_a_server_that_is_away_is_one_clear_message(browser: Browser, exported: Path, key_file: Path) -> None:
    with serving_page("grpc://127.0.0.1:9/model", "--client", exported / "client", "--retries", 0) as page:
        error = error_after_key(browser, page, key_file)
    assert "127.0.0.1:9" in error
    assert "available" in error


def test_a_server_that_goes_away_is_one_clear_message(
    browser: Browser, exported: Path, key_file: Path, video: Path
) -> None:
    with (
        serving(exported / "server") as server,
        serving_page(server.address(), "--client", exported / "client", "--retries", 0) as page,
    ):
        open_key(browser, page, key_file)
        assert classify(browser, video)
        server.end()
        browser.click("#classify")
        browser.wait(DONE)
        assert "available" in browser.text("#error")


def test_a_server_without_the_key_says_so(
    browser: Browser, exported: Path, key_file: Path, video: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported / "server", tmp_path / "server"))
    shutil.rmtree(folder / "keys/main")
    with serving(folder) as server, serving_page(server.address(), "--client", exported / "client") as page:
        open_key(browser, page, key_file)
        browser.files("#video-file", video)
        browser.click("#classify")
        browser.wait(DONE)
        assert browser.text("#error")
        assert browser.text("#key-known") == "does not have this key"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(browser: Browser, page: WebPage, key_file: Path, video: Path, scheme: str) -> None:
    open_key(browser, page, key_file, axe=True)
    browser.media(colorScheme=scheme)
    assert browser.axe() == []
    classify(browser, video, "#watch")
    browser.click("#attack")
    browser.wait("document.querySelector('#thief-result').textContent.includes('%')")
    assert browser.axe() == []
    browser.size(320, 640)
    assert browser.axe() == []
    assert browser.evaluate("() => document.documentElement.scrollWidth <= innerWidth") is True


def test_the_page_is_used_with_the_keyboard_alone(browser: Browser, page: WebPage, key_file: Path, video: Path) -> None:
    open_key(browser, page, key_file)
    browser.files("#video-file", video)
    for _ in range(20):
        browser.press("Tab")
        if browser.evaluate("() => document.activeElement.id") == "classify":
            break
    browser.press("Enter")
    browser.wait(DONE)
    assert browser.rows("#predictions")


def test_frames_move_only_for_those_who_do_not_prefer_less_motion(
    browser: Browser, page: WebPage, key_file: Path, video: Path
) -> None:
    open_key(browser, page, key_file)
    browser.media(reducedMotion="reduce")
    classify(browser, video)
    first = browser.text("#frame-number")
    browser.evaluate("() => new Promise((go) => setTimeout(go, 600))")
    assert (browser.text("#frame-number"), first) == ("1", "1")
    browser.media(reducedMotion="no-preference")
    classify(browser, video)
    browser.wait("document.querySelector('#frame-number').textContent === '5'")
