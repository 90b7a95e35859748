"""Sealed clips and requests between Python and ``clients/js/``, and a server that opens nothing else."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    Client,
    PlainClip,
    SealingKey,
    SecurityKey,
    Views,
    open_session,
    read_clip_file,
    write_clip_file,
)
from lcve_deploy.clipfile import dump_clip
from lcve_deploy.errors import LcveError
from lcve_deploy.protocol.binding import binding_to_parameters
from lcve_deploy.sealing import Suite, open_request, seal
from lcve_deploy.sealing.header import Header, Kind
from tests.javascript.test_exchange import client_json, python_file
from tests.sealing.helpers import BINDING, CLASSES, OTHER, SIZE, content, ring
from tests.support.node import JavaScriptClient, JavaScriptError, require_node
from tests.support.servers import Server, serving

KEY = SealingKey.create()
THEIRS = SealingKey.create()
HYBRID = SealingKey.create(Suite.HYBRID)
DCT_VECTORS = Path(__file__).parents[2] / "docs/reference/dct-vectors.json"
LOGITS = np.array([[0.5, -1.25, 3.0, 0.0, 2.0]], "<f4")


def clip_bytes(views: int = 1, *, key: SealingKey | None = None) -> bytes:
    file = io.BytesIO()
    dump_clip(content(views), file, seal_to=key.public_key if key else None)
    return file.getvalue()


def test_each_opens_what_the_other_has_sealed(javascript: JavaScriptClient, tmp_path: Path) -> None:
    for views in (1, 3):
        plain, path = clip_bytes(views), tmp_path / f"{views}.lcve"
        path.write_bytes(javascript.call_for_bytes("seal", file=plain, to=KEY.public_key.to_bytes()))
        opened = read_clip_file(path, open_with=KEY)
        np.testing.assert_array_equal(opened.clip.values, content(views).clip.values)
        assert (opened.views, opened.clip.binding) == (content(views).views, BINDING)
        assert path.stat().st_size == len(clip_bytes(views, key=KEY))
        assert javascript.call_for_bytes("open", file=clip_bytes(views, key=KEY), key=KEY.to_bytes()) == plain
    assert javascript.call("fingerprint", key=KEY.to_bytes()) == KEY.public_key.fingerprint


def test_each_opens_packed_clips_of_the_other(javascript: JavaScriptClient, tmp_path: Path) -> None:
    plain = bytes.fromhex(json.loads(DCT_VECTORS.read_text())["clip_file"]["file_hex"])
    (tmp_path / "plain.lcve").write_bytes(plain)
    expected = read_clip_file(tmp_path / "plain.lcve")
    sealed = javascript.call_for_bytes("seal", file=plain, to=KEY.public_key.to_bytes())
    (tmp_path / "theirs.lcve").write_bytes(sealed)
    write_clip_file(tmp_path / "ours.lcve", expected, seal_to=KEY.public_key)
    ours = (tmp_path / "ours.lcve").read_bytes()
    (tmp_path / "opened.lcve").write_bytes(javascript.call_for_bytes("open", file=ours, key=KEY.to_bytes()))
    for name in ("theirs", "opened"):
        found = read_clip_file(tmp_path / f"{name}.lcve", open_with=KEY)
        assert found.clip.values.tobytes() == expected.clip.values.tobytes()
        assert (found.views, found.clip.binding) == (expected.views, expected.clip.binding)


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_both_refuse_the_same_files(javascript: JavaScriptClient, tmp_path: Path) -> None:
    file, path = clip_bytes(key=KEY), tmp_path / "clip.lcve"
    places = range(0, len(file), 7)
    cases = [
        *((changed(file, place), KEY) for place in places),
        *((file[:length], KEY) for length in (0, 8, 11, 12, 100, len(file) - 1)),
        (file + b"\0", KEY),
        (file, THEIRS),
        (clip_bytes(), KEY),
    ]
    for data, key in cases:
        path.write_bytes(data)
        if data[:8] == file[:8]:
            with pytest.raises(LcveError):
                read_clip_file(path, open_with=key)
        with pytest.raises(JavaScriptError):
            javascript.call("open", file=data, key=key.to_bytes())


def test_the_hybrid_suite_is_refused_with_one_error(javascript: JavaScriptClient) -> None:
    for call, given, kind in (
        ("seal", {"file": clip_bytes(), "to": HYBRID.public_key.to_bytes()}, "SealingError"),
        ("open", {"file": clip_bytes(key=HYBRID), "key": HYBRID.to_bytes()}, "KeyFileError"),
        ("open", {"file": clip_bytes(key=HYBRID), "key": KEY.to_bytes()}, "SealingError"),
    ):
        with pytest.raises(JavaScriptError, match="mlkem768-x25519") as refused:
            javascript.call(call, **given)
        assert refused.value.kind == kind


Answer = Callable[[], bytes]


@pytest.fixture
def answer(javascript: JavaScriptClient) -> Answer:
    """What Python answers to a request of JavaScript, which is made here."""
    values = bytes(range(SIZE))
    binding = {name.removeprefix("lcve_"): text for name, text in binding_to_parameters(BINDING).items()}
    about: dict[str, str | int] = {"count": 1, "binding": json.dumps(binding), "model": "actions"}
    data = javascript.call_for_bytes("ask", values=values, to=KEY.public_key.to_bytes(), **about)
    opened = open_request(data, ring(KEY), None, binding=BINDING, model="actions", version="")
    assert opened.values == values
    return lambda: opened.seal_answer(LOGITS.tobytes(), classes=CLASSES, version="1")


def test_the_answer_of_python_is_opened(javascript: JavaScriptClient, answer: Answer) -> None:
    assert javascript.call("answer", answer=answer(), classes=CLASSES) == LOGITS.ravel().tolist()


def test_other_answers_are_refused(javascript: JavaScriptClient, answer: Answer) -> None:
    data = answer()
    for place in range(0, len(data), 23):
        with pytest.raises(JavaScriptError):
            javascript.call("answer", answer=changed(data, place), classes=CLASSES)
    with pytest.raises(JavaScriptError, match="expected the answer"):
        javascript.call("answer", answer=data, classes=CLASSES + 1)
    with pytest.raises(JavaScriptError, match="truncated or extended"):
        javascript.call("answer", answer=data + b"\0", classes=CLASSES)
    assert javascript.call("answer", answer=data, classes=CLASSES)


def test_answers_for_another_model_request_or_key_are_refused(javascript: JavaScriptClient, answer: Answer) -> None:
    length = int.from_bytes(answer()[8:12], "little")
    header = Header.parse(answer()[12 : 12 + length])
    assert header.kind is Kind.ANSWER
    for forged, words in (
        (replace(header, binding=OTHER), "does not belong to this model"),
        (replace(header, id="0" * 32), "belongs to another request"),
        (replace(header, recipient=THEIRS.public_key.fingerprint), "sealed to the key"),
        (header, "cannot be opened"),
    ):
        with pytest.raises(JavaScriptError, match=words):
            javascript.call("answer", answer=seal(forged, LOGITS.tobytes(), THEIRS.public_key), classes=CLASSES)


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that opens sealed requests, and accepts no others."""
    require_node()
    folder = tmp_path_factory.mktemp("serve-key")
    KEY.write(folder / "serve.key")
    sealed = ("--open-with", folder / "serve.key", "--sealed-only")
    with serving(exported / "server", *sealed, "--max-batch", 2) as started:
        yield started


def test_sealed_requests_to_a_server_that_requires_them(
    javascript: JavaScriptClient, server: Server, exported: Path, key_file: Path
) -> None:
    client = Client.open(exported / "client", SecurityKey.read(key_file))
    shape = client.settings.binding.geometry.clip_shape
    clips = np.random.default_rng(3).integers(0, 256, (3, *shape), dtype=np.uint8)
    given: dict[str, str | bytes] = {
        "address": server.address("http"),
        "settings": client_json(client),
        "file": python_file(client, clips, Views(temporal=3)),
    }
    received = javascript.call("run", **given, sealTo=KEY.public_key.to_bytes())
    with_session = open_session(exported / "server").run(client.encrypt(PlainClip(values=clips)))
    np.testing.assert_allclose(np.reshape(received, with_session.shape), with_session, rtol=1e-5, atol=1e-5)
    with pytest.raises(JavaScriptError, match="accepts only sealed requests, and nothing has been sent") as refused:
        javascript.call("run", **given)
    assert refused.value.kind == "MismatchError"
    with pytest.raises(JavaScriptError, match="sealed to the key") as refused:
        javascript.call("run", **given, sealTo=THEIRS.public_key.to_bytes())
    assert refused.value.kind == "RequestError"
