"""A server that lies: each lie is one error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import Binding, Client, ClipFile, PlainClip, RemoteSession, SecurityKey, Views, write_clip_file
from lcve_deploy.errors import LcveError, MismatchError, SessionError
from lcve_deploy.model.output import ModelOutput
from lcve_deploy.remote.bodies import read_answer
from lcve_deploy.verbs.classify import classify
from tests.conftest import ORACLE, run_error, run_lcve
from tests.remote.helpers import BINDING, QUICK, Server, clips
from tests.support import fake_server as fake
from tests.support.fake_server import Model
from tests.support.lying_server import LyingHttp, http_answer
from tests.test_video import make_video
from tests.watch.helpers import noisy_frames

_NAMED = b'{"model_name":"digits","outputs":[{"name":"logits","datatype":"FP32","shape":[1,5]'


def _output(**changes: Any) -> bytes:
    output = {"name": "logits", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5], **changes}
    return json.dumps({"model_name": "digits", "model_version": "1", "outputs": [output]}).encode()


LYING_JSON = {
    "fewer": _output(data=[1, 2, 3, 4]),
    "more": _output(data=[1, 2, 3, 4, 5, 6]),
    "strings": _output(data=["1", "2", "3", "4", "5"]),
    "truth": _output(data=[True, False, True, True, False]),
    "null": _output(data=[1, 2, 3, 4, None]),
    "objects": _output(data=[{}, {}, {}, {}, {}]),
    "an object": _output(data={"0": 1}),
    "a number": _output(data=5),
    "a string": _output(data="12345"),
    "ragged": _output(data=[[1, 2, 3], [4, 5]]),
    "deeper": _output(data=[[[1, 2, 3, 4, 5]]]),
    "other classes": _output(shape=[1, 6], data=[1, 2, 3, 4, 5, 6]),
    "another batch": _output(shape=[2, 5], data=[0] * 10),
    "a huge shape": _output(shape=[1, 10**30]),
    "FP64": _output(datatype="FP64"),
    "both": _output(parameters={"binary_data_size": 0}),
    "parameters are a list": _output(parameters=[]),
    "parameters are null": _output(parameters=None),
    "two outputs": b'{"model_name":"digits","outputs":[{},{}]}',
    "name is a list": b'{"model_name":["digits"],"outputs":[]}',
    "deep": _NAMED + b',"data":' + b"[" * 20_000 + b"]" * 20_000 + b"}]}",
    "a long number": _NAMED + b',"data":[1,2,3,4,' + b"9" * 20_000 + b",6]}]}",
    "surrogate": b'{"model_name":"\\ud800","outputs":[]}',
    "duplicated": b'{"model_name":"digits","outputs":[{"name":"logits"}],"outputs":3}',
}


@pytest.mark.parametrize("body", LYING_JSON.values(), ids=LYING_JSON)
def test_json_that_is_not_the_logits_is_one_error(body: bytes) -> None:
    with LyingHttp(Model(BINDING), {"infer": http_answer(body)}) as server:
        with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(SessionError) as caught:
            session.run(clips())
        assert server.asked.count("infer") == 1
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("data", [b"[1,2,3,4,5]", b"[[1,2,3,4,5]]", b"[ 1.0, 2e0,3,4,5 ]"])
def test_json_that_is_the_logits_is_read(data: bytes) -> None:
    reply = read_answer(_NAMED + b',"data":' + data + b"}]}", None, (1, 5), "server")
    np.testing.assert_array_equal(reply.logits, np.array([[1, 2, 3, 4, 5]], np.float32))


def test_numbers_beyond_float32_are_infinite_for_the_reader() -> None:
    numbers = b"1e39,-1e39,1e999," + b"9" * 400 + b",NaN"
    reply = read_answer(_NAMED + b',"data":[' + numbers + b"]}]}", None, (1, 5), "server")
    assert reply.logits[0, :4].tolist() == [math.inf, -math.inf, math.inf, math.inf]
    assert math.isnan(reply.logits[0, 4])


LYING_METADATA: dict[str, Callable[[Any], None]] = {
    "more classes": lambda m: m.outputs[0].shape.__setitem__(-1, 6),
    "all classes": lambda m: m.outputs[0].shape.__setitem__(-1, 2**62),
    "negative classes": lambda m: m.outputs[0].shape.__setitem__(-1, -5),
    "no output": lambda m: m.outputs.__delitem__(0),
    "many inputs": lambda m: m.inputs.extend([m.inputs[0]] * 500),
    "many axes": lambda m: m.outputs[0].shape.extend([1] * 5000),
    "a long name": lambda m: setattr(m, "name", "\x1b[2J" * 10_000),
    "another type": lambda m: setattr(m.outputs[0], "datatype", "FP64\x1b[2J"),
}
LYING_CONFIG: dict[str, Callable[[Any], None]] = {
    "negative batch": lambda m: setattr(m, "max_batch_size", -(2**31)),
    "another salt": lambda m: setattr(m.parameters["lcve_salt"], "string_value", "c" * 32),
    "a long binding": lambda m: setattr(m.parameters["lcve_scheme"], "string_value", "\x1b[2J" * 10_000),
    "a broken binding": lambda m: setattr(m.parameters["lcve_geometry"], "string_value", "\x1b[2J" * 10_000),
    "half a binding": lambda m: m.parameters.__delitem__("lcve_salt"),
    "many inputs": lambda m: m.input.extend([m.input[0]] * 500),
    "an unknown type": lambda m: setattr(m.output[0], "data_type", 77),
}


@pytest.mark.parametrize("classes", [None, 5])
@pytest.mark.parametrize("change", LYING_METADATA.values(), ids=LYING_METADATA)
def test_metadata_that_lies_is_one_error(start: Callable[..., Server], change: Any, classes: int | None) -> None:
    _refused(start(Model(BINDING, change_metadata=change)), classes)


@pytest.mark.parametrize("change", LYING_CONFIG.values(), ids=LYING_CONFIG)
def test_a_configuration_that_lies_is_one_error(start: Callable[..., Server], change: Any) -> None:
    _refused(start(Model(BINDING, change_config=change)), None)


def _refused(server: Server, classes: int | None) -> None:
    output = None if classes is None else ModelOutput.logits(classes)
    with RemoteSession(server.address, BINDING, QUICK, output=output) as session:
        with pytest.raises((MismatchError, SessionError)) as caught:
            session.run(clips())
        said = str(caught.value)
        assert said.isprintable()
        assert len(said) < 3000
        assert not server.model.infers


def test_a_version_that_lies_moves_no_cursor(start: Callable[..., Server]) -> None:
    server = start(Model(BINDING, versions=["\x1b[2J" * 1000, "1"]))
    server.model.next.append(lambda response: setattr(response, "model_version", "7\x1b[2J"))
    with RemoteSession(server.address, BINDING, QUICK) as session, pytest.raises(SessionError) as caught:
        session.run(clips())
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


class _Changing:
    """Metadata and configuration of so many classes; the answer follows."""

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def metadata(self, message: Any) -> None:
        message.outputs[0].shape[-1] = self.classes

    def config(self, message: Any) -> None:
        message.output[0].dims[-1] = self.classes

    def answer(self, response: Any) -> None:
        response.outputs[0].shape[-1] = self.classes
        response.raw_output_contents[0] = bytes(4 * self.classes)

    def model(self, binding: Binding) -> Model:
        return Model(binding, change_metadata=self.metadata, change_config=self.config)


def test_the_number_of_classes_cannot_change_within_a_session(start: Callable[..., Server]) -> None:
    changing = _Changing(5)
    server = start(changing.model(BINDING))
    with RemoteSession(server.address, BINDING, QUICK) as session:
        session.run(clips())
        changing.classes = 6
        server.model.next.extend([fake.AWAY, changing.answer])  # a failure makes the session ask again what is there
        with pytest.raises(MismatchError, match="expected"):
            session.run(clips())


def test_servers_of_one_session_agree_on_the_number_of_classes(start: Callable[..., Server]) -> None:
    first, second = start(Model(BINDING)), start(_Changing(6).model(BINDING))
    address = first.address.replace("/digits", f",127.0.0.1:{second.port}/digits")
    with RemoteSession(address, BINDING, QUICK) as session:
        session.run(clips())
        first.model.next.append(fake.AWAY)
        with pytest.raises(MismatchError, match="expected"):
            session.run(clips())


@pytest.fixture
def four_views(served: Binding, exported: Path, key_file: Path, tmp_path: Path) -> Path:
    client = Client.open(exported / "client", SecurityKey.read(key_file))
    stack = client.encrypt(PlainClip(values=np.zeros((4, 8, 32, 32, 3), np.uint8)))
    write_clip_file(tmp_path / "four.lcve", ClipFile(clip=stack, views=Views(temporal=4)))
    return tmp_path / "four.lcve"


def test_run_without_a_key_ends_in_one_error_if_the_classes_change(
    start: Callable[..., Server], served: Binding, four_views: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lcve_deploy.cli.run._REQUESTS", 1)
    changing = _Changing(5)
    server = start(changing.model(served))

    def change(response: Any) -> None:
        changing.classes = 6

    server.model.next.extend([change, fake.AWAY, *[changing.answer] * 3])  # a failure makes the session ask again
    assert "is not for these clips" in run_error("run", server.address, four_views)


def test_run_without_a_key_prints_no_logits_that_are_not_finite(
    start: Callable[..., Server], served: Binding, four_views: Path
) -> None:
    nan = np.full((1, fake.CLASSES), np.nan, np.float32).tobytes()
    server = start(Model(served))
    server.model.next.extend([lambda response: response.raw_output_contents.__setitem__(0, nan)] * 4)
    assert "expected finite logits" in run_error("run", server.address, four_views, "--json")


LIES = {
    "another model": lambda response: setattr(response, "model_name", "\x1b[2J"),
    "other classes": _Changing(6).answer,
    "not finite": lambda response: response.raw_output_contents.__setitem__(0, b"\xff" * 20),
    "no logits": lambda response: response.raw_output_contents.__delitem__(0),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_every_command_ends_in_one_error(
    start: Callable[..., Server], served: Binding, exported: Path, key_file: Path, tmp_path: Path, lie: Any
) -> None:
    server, sides = start(Model(served)), ("--key", key_file, "--client", exported / "client")
    clip = ORACLE / "clip_8x32x32.npy"
    server.model.next.append(lie)
    assert run_error("run", server.address, clip, *sides).isprintable()
    server.model.next.append(lie)
    with pytest.raises(LcveError):
        classify(clip, server.address, key=SecurityKey.read(key_file), client=exported / "client")
    film = make_video(tmp_path / "film.mp4", noisy_frames(24))
    server.model.next.append(lie)
    watched = run_lcve("watch", film, "--server", server.address, *sides, "--windows", 2, "--in-flight", 1, "--json")
    assert watched.exit_code == 0
    lines = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [line["outcome"] for line in lines[:2]] == ["failed", "answered"]
    assert lines[0]["error"]
