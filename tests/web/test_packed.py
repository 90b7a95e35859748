"""The page and ``lcve web`` with an artifact for packed clips, of the scheme ``lcve-dct-1``."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from lcve_deploy import Client, PlainClip, RemoteOptions, SecurityKey, open_session
from lcve_deploy.errors import RequestError
from lcve_deploy.geometry import ClipGeometry
from lcve_deploy.packing import pack, random_records
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.web.models import ServerModel
from lcve_deploy.web.requests import clip_in
from tests.conftest import run_ok
from tests.support.browser import Browser
from tests.support.pages import WebPage, serving_page
from tests.support.servers import LENGTH, serving
from tests.web.test_frames import read_on_page
from tests.web.test_page import IS_SHOWN, canvas_pixels, classify, open_key, run_on_saved_clip

INFER = "/v2/models/model/infer"


@pytest.fixture(scope="module")
def packed_page(thin: Path) -> Iterator[WebPage]:
    with serving_page(thin) as started:
        yield started


@pytest.fixture(scope="module")
def client(thin: Path, key_file: Path) -> Client:
    return Client.open(thin / "client", SecurityKey.read(key_file))


def choose(browser: Browser, quality: str) -> None:
    code = """(quality) => {
      const choice = document.querySelector("#quality");
      choice.value = quality;
      choice.dispatchEvent(new Event("change"));
    }"""
    browser.evaluate(code, quality)


def packed_bytes(browser: Browser) -> int:
    match = re.match(r"([\d,]+) packed; lcve-1 would send 24,576", browser.text("#bytes"))
    assert match
    return int(match[1].replace(",", ""))


def test_predictions_are_those_of_lcve_run_with_the_same_quality_on_the_same_frames(
    browser: Browser, packed_page: WebPage, thin: Path, client: Client, key_file: Path, video: Path, tmp_path: Path
) -> None:
    open_key(browser, packed_page, key_file)
    assert "lcve-1 would send 24,576" in browser.text("#bytes")
    browser.files("#video-file", video)
    np.save(tmp_path / "frames.npy", read_on_page(browser, video, client.settings.preprocess)[1][0])
    sizes = []
    for quality in ("fine", "normal", "small"):
        choose(browser, quality)
        shown = classify(browser, video)
        given = json.loads(
            run_ok("run", thin, tmp_path / "frames.npy", "--key", key_file, "--quality", quality, "--json")
        )
        expected = [[entry["name"], f"{100 * entry['probability']:.2f}%"] for entry in given["predictions"]]
        assert shown == expected
        sizes.append(packed_bytes(browser))
    assert sizes == sorted(sizes, reverse=True)
    assert shown == run_on_saved_clip(browser, thin, key_file, tmp_path)
    assert (tmp_path / "clip.lcve").stat().st_size < 24576 / 2
    assert [row[0] for row in browser.rows("#times")][:2] == ["Encrypting", "Packing"]


def test_the_pictures_show_the_loss_and_nothing_goes_elsewhere(
    browser: Browser, packed_page: WebPage, key_file: Path, video: Path
) -> None:
    open_key(browser, packed_page, key_file)
    browser.media(reducedMotion="reduce")
    choose(browser, "small")
    classify(browser, video)
    pixels = {name: canvas_pixels(browser, name) for name in ("plain", "encrypted", "decrypted")}
    assert len(set(pixels.values())) == 3
    own = urlsplit(packed_page.url).netloc
    asked = {urlsplit(request["url"]).netloc for request in browser.requests if request["url"].startswith("http")}
    assert asked == {own}
    assert browser.console == []


def test_a_thief_who_knows_one_clip_opens_the_next(
    browser: Browser, packed_page: WebPage, key_file: Path, video: Path
) -> None:
    open_key(browser, packed_page, key_file)
    choose(browser, "fine")
    classify(browser, video, "#watch")
    browser.click("#attack")
    browser.wait("document.querySelector('#thief-result').textContent.includes('%')")
    assert float(browser.text("#thief-result").split("%")[0]) > 80


def test_axe_finds_nothing_and_the_choice_of_quality_goes_with_the_key(
    browser: Browser, packed_page: WebPage, key_file: Path
) -> None:
    open_key(browser, packed_page, key_file, axe=True)
    browser.media(colorScheme="dark")
    assert browser.evaluate(IS_SHOWN) is True
    assert browser.axe() == []
    browser.size(320, 640)
    assert browser.axe() == []
    assert browser.evaluate("() => document.documentElement.scrollWidth <= innerWidth") is True
    browser.click("#forget")
    assert browser.evaluate(IS_SHOWN) is False


UNPACK = """async ({ streams, size }) => {
  const { inflate } = await import("/client/dct/inflate.js");
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return await Promise.all(streams.map(async (stream) => (await inflate(bytes(stream), size)) !== undefined));
}"""


def test_this_browser_refuses_streams_that_end_elsewhere(browser: Browser, packed_page: WebPage) -> None:
    """Node and browsers differ in what they do with bytes after the end; the tests in Node cannot show this."""
    content = bytes(i % 9 for i in range(5000))
    stream, bomb = (zlib.compress(part, wbits=-15) for part in (content, bytes(2**24)))
    streams = [stream, stream + b"\0", stream * 2, stream[:-1], b"", b"\7\7\7\xff", bomb]
    browser.open(packed_page.url)
    given = [base64.b64encode(part).decode() for part in streams]
    assert browser.evaluate(UNPACK, {"streams": given, "size": len(content)}) == [True, *[False] * 6]
    assert browser.evaluate(UNPACK, {"streams": given[:1], "size": len(content) - 1}) == [False]


# Without a browser


def body_of(data: bytes, client: Client, name: str = "packed", **changes: object) -> tuple[bytes, dict[str, str]]:
    tensor = {"name": name, "datatype": "UINT8", "shape": [len(data)], "parameters": {"binary_data_size": len(data)}}
    parameters = binding_to_parameters(client.settings.binding)
    head = json.dumps({"parameters": parameters, "inputs": [{**tensor, **changes}]}).encode()
    return head + data, {LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def packed_clips(client: Client, clips: int = 1) -> tuple[bytes, PlainClip]:
    shape = (clips, *client.settings.binding.geometry.clip_shape)
    plain = PlainClip(values=np.random.default_rng(5).integers(90, 140, shape, dtype=np.uint8))
    return pack(client.encrypt(plain).values, client.settings.binding.geometry), plain


def test_packed_clips_are_answered_here_and_by_a_server(thin: Path, packed_page: WebPage, client: Client) -> None:
    data, plain = packed_clips(client, 3)
    binding = client.settings.binding
    expected = open_session(thin / "server").run(client.encrypt(plain))
    body, headers = body_of(data, client)
    status, answer = packed_page.ask(INFER, verb="POST", body=body, headers=headers)
    assert status == 200
    received = np.frombuffer(answer[-expected.nbytes :], "<f4").reshape(expected.shape)
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5)
    with serving(thin / "server") as server:
        model = ServerModel(server.address(), RemoteOptions())
        assert model.offer(binding).metadata()["inputs"] == [{"name": "packed", "datatype": "UINT8", "shape": [-1]}]
        run = model.run(clip_in(memoryview(body), headers[LENGTH]))
        model.close()
    np.testing.assert_allclose(run.logits, expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_packed_well_is_one_clear_error(packed_page: WebPage, client: Client) -> None:
    data, _ = packed_clips(client)
    flipped = data[:100] + bytes([data[100] ^ 4]) + data[101:]
    for bad, words in (
        (data[:-1], "cut off"),
        (flipped, "checksum"),
        (b"", "packed clips"),
        (bytes(1000), "there is none"),
    ):
        body, headers = body_of(bad, client)
        status, answer = packed_page.ask(INFER, verb="POST", body=body, headers=headers)
        assert (status, words in json.loads(answer)["error"]) == (400, True), answer
    for changes in ({"name": "clips"}, {"datatype": "INT8"}, {"shape": [1, len(data)]}):
        body, headers = body_of(data, client, **changes)
        status, answer = packed_page.ask(INFER, verb="POST", body=body, headers=headers)
        assert (status, "named packed" in json.loads(answer)["error"]) == (400, True), answer
    body, headers = body_of(data, client, shape=[len(data) + 1])
    assert packed_page.ask(INFER, verb="POST", body=body, headers=headers)[0] == 400


def test_more_packed_clips_than_a_page_sends_are_refused_before_they_take_memory(client: Client) -> None:
    tiny = ClipGeometry.parse("1x1x1x1/1x1x1")
    settings = replace(client.settings, binding=replace(client.settings.binding, geometry=tiny))
    one = pack(random_records(tiny, 1), tiny)
    body, headers = body_of(one * 4097, replace(client, settings=settings))
    with pytest.raises(RequestError, match="expected 1 to 4096 packed clips, received more"):
        clip_in(memoryview(body), headers[LENGTH])
