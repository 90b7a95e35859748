"""A video to predictions in one call: at an artifact, at a server folder, and at the address of a server."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lcve_deploy import (
    Classification,
    Classifier,
    Client,
    EncryptedClip,
    PlainClip,
    ProblemType,
    PublicKey,
    RemoteOptions,
    SecurityKey,
    SessionOptions,
    Views,
    classify,
    write_clip_file,
)
from lcve_deploy.encrypted_model import run_each, run_views
from lcve_deploy.errors import (
    ArtifactError,
    EncryptedClipError,
    MismatchError,
    SessionError,
    SignatureError,
    UnavailableError,
    VideoError,
)
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.model.preprocess import Sampling
from lcve_deploy.video import write_video
from lcve_deploy.video.decode import VideoWarning
from tests.conftest import ORACLE, ORACLES, run_error, run_lcve, run_ok
from tests.support import fake_server as fake
from tests.test_export import export_tiny

TINY = ORACLES["v1_model_args"]
CLIP = ORACLE / "clip_8x32x32.npy"
TOO_LONG: dict[str, Any] = {"sampling": Sampling.KINETICS, "stride": 4}
"""For a video of twelve frames and clips of eight."""
LOGITS = TINY.logits[None]


@pytest.fixture
def client(exported: Path, key: SecurityKey) -> Client:
    return Client.open(exported / "client", key)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Twelve frames."""
    frames = np.random.default_rng(1).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
    write_video(tmp_path / "video.mp4", frames.repeat(8, axis=1).repeat(8, axis=2))
    return tmp_path / "video.mp4"


def by_hand(exported: Path, client: Client, video: Path, views: Views) -> np.ndarray:
    """Logits of each view by the parts that the one call is made of."""
    from lcve_deploy import open_session

    preprocess = dataclasses.replace(client.settings.preprocess, **TOO_LONG)
    session, clips = (
        open_session(exported / "server"),
        client.read_video(video, views=views, preprocess=preprocess).clip,
    )
    return client.plain_order(session.run(client.encrypt(clips)))


def test_an_array_at_an_artifact(exported: Path, key: SecurityKey) -> None:
    found = classify(CLIP, exported, key=key, top=3)
    np.testing.assert_allclose(found.logits, LOGITS, atol=1e-5)
    assert [prediction.index for prediction in found.predictions] == np.argsort(-TINY.logits)[:3].tolist()
    assert (found.views, found.problem_type, found.notes) == (Views(), ProblemType.SINGLE_LABEL, ())


def test_an_array_at_a_server_folder_with_the_client_folder(exported: Path, key: SecurityKey, key_file: Path) -> None:
    found = classify(CLIP, exported / "server", key=key, client=exported / "client")
    np.testing.assert_allclose(found.logits, LOGITS, atol=1e-5)
    sides = ("--key", key_file, "--client", exported / "client")
    assert json.loads(run_ok("run", exported / "server", CLIP, *sides, "--json")) == found.to_json()


@pytest.mark.parametrize("start", [fake.GrpcServer, fake.HttpServer], ids=["grpc", "http"])
def test_a_video_at_an_address(
    start: Callable[..., Any], exported: Path, client: Client, key: SecurityKey, video: Path
) -> None:
    model = fake.Model(client.settings.binding)
    server = start(model)
    try:
        with pytest.warns(VideoWarning, match="too few"):
            found = classify(
                video, server.address, key=key, client=exported / "client", views=Views(temporal=3), **TOO_LONG
            )
    finally:
        server.stop()
    assert found.logits.shape == (3, 5)
    assert len(model.infers) == 3
    assert found.notes == ("the video has 12 frames, too few for a clip of 8 with stride 4: frames were repeated",)


@pytest.mark.filterwarnings("ignore::lcve_deploy.video.decode.VideoWarning")
def test_a_video_is_sampled_as_asked_and_its_notes_come_along(
    exported: Path, key: SecurityKey, client: Client, video: Path
) -> None:
    views = Views(temporal=2, spatial=3)
    found = classify(video, exported, key=key, views=views, **TOO_LONG)
    np.testing.assert_allclose(found.logits, by_hand(exported, client, video, views), atol=1e-5)
    assert found.views == views
    assert [note.split(",")[0] for note in found.notes] == ["the video has 12 frames"]
    uniform = classify(video, exported, key=key, sampling=Sampling.UNIFORM)
    assert uniform.notes == ()
    assert not np.allclose(uniform.logits, found.logits[:1])
    assert classify(video, exported, key=key, sampling=Sampling.KINETICS, stride=1).notes == ()


def test_a_folder_of_frames(exported: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / f"frames/{number}.png")
    found = classify(tmp_path / "frames", exported, key=key, sampling=Sampling.UNIFORM)
    np.testing.assert_allclose(found.logits, LOGITS, atol=1e-5)


def test_an_encrypted_clip_has_its_own_views(exported: Path, key: SecurityKey, client: Client, tmp_path: Path) -> None:
    write_clip_file(tmp_path / "clip.lcve", client.encrypt_video(client.read_video(CLIP)))
    np.testing.assert_allclose(classify(tmp_path / "clip.lcve", exported, key=key).logits, LOGITS, atol=1e-5)
    for more in ({"views": Views()}, {"sampling": Sampling.UNIFORM}, {"stride": 2}):
        with pytest.raises(EncryptedClipError, match="is already sampled"):
            classify(tmp_path / "clip.lcve", exported, key=key, **more)


def test_clips_in_memory(exported: Path, key: SecurityKey, clip: np.ndarray) -> None:
    np.testing.assert_allclose(classify(PlainClip(values=clip), exported, key=key).logits, LOGITS, atol=1e-5)
    several = classify(PlainClip(values=np.stack([clip, clip[::-1]])), exported, key=key)
    assert several.views == Views(temporal=2)
    np.testing.assert_allclose(several.logits[:1], LOGITS, atol=1e-5)
    assert not np.allclose(several.logits[1], several.logits[0])
    with pytest.raises(ValueError, match="already sampled"):
        classify(PlainClip(values=clip), exported, key=key, stride=2)
    with pytest.raises(ValueError, match="expected uint8 clips"):
        classify(PlainClip(values=clip.astype(np.float32)), exported, key=key)
    with pytest.raises(ValueError, match="at least one clip"):
        classify(PlainClip(values=clip[None][:0]), exported, key=key)


def test_what_has_no_effect_is_refused(exported: Path, key: SecurityKey) -> None:
    with pytest.raises(ValueError, match=r"session options .* received the address grpc://a:1/m"):
        classify(CLIP, "grpc://a:1/m", key=key, client=exported / "client", session=SessionOptions())
    with pytest.raises(ValueError, match="remote options need the address"):
        classify(CLIP, exported, key=key, remote=RemoteOptions())
    with pytest.raises(ValueError, match="needs the client folder of its artifact"):
        classify(CLIP, "grpc://a:1/m", key=key)
    with pytest.raises(ArtifactError, match="is an artifact with its own client folder"):
        classify(CLIP, exported, key=key, client=exported / "client")
    with pytest.raises(ValueError, match="an engine is built for its own provider"):
        SessionOptions(engine="fast", provider_options={"a": "b"})


def test_sides_that_do_not_belong_together_are_refused(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    other = export_tiny(tmp_path / "other", key)
    with pytest.raises(MismatchError, match="was not made with the manifest of"):
        classify(CLIP, other / "server", key=key, client=exported / "client")
    with pytest.raises(MismatchError, match="key id"):
        classify(CLIP, exported, key=SecurityKey(bytes(32)))
    with pytest.raises(ArtifactError, match="expected a folder with server/ and client/"):
        classify(CLIP, exported / "server", key=key)
    with pytest.raises(VideoError, match="there is no video"):
        classify(tmp_path / "none.mp4", exported, key=key)
    with pytest.raises(UnavailableError):
        classify(CLIP, "grpc://127.0.0.1:1/m", key=key, client=exported / "client", remote=RemoteOptions(retries=0))


def test_a_pin_holds_for_the_whole_call(exported: Path, key: SecurityKey, tmp_path: Path) -> None:
    SigningKey.create().write(tmp_path / "signing.pem")
    run_ok("keygen", "--signing", "-o", tmp_path / "other.pem")
    pinned = SessionOptions(signed_by=PublicKey.read(tmp_path / "other.pub"))
    with pytest.raises(SignatureError):
        classify(CLIP, exported, key=key, session=pinned)
    with pytest.raises(SignatureError):
        classify(CLIP, exported / "server", key=key, client=exported / "client", session=pinned)


def test_a_classifier_is_opened_once_for_many_videos(
    exported: Path, key: SecurityKey, clip: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Classifier.open(exported, key=key) as classifier:
        monkeypatch.setattr("lcve_deploy.verbs.classify.open_session", lambda *_: pytest.fail("opened again"))
        for _ in range(2):
            np.testing.assert_allclose(classifier.classify(CLIP).logits, LOGITS, atol=1e-5)


def test_a_client_reads_what_a_session_answers(client: Client) -> None:
    hidden = np.empty((1, 5))
    hidden[:] = LOGITS if client.orders.label_order is None else LOGITS[:, client.orders.label_order]
    assert client.read(hidden, top=2) == client.predict(LOGITS, top=2)
    found = Classification.of(client, hidden, views=Views(), top=2)
    assert list(found.predictions) == client.predict(LOGITS, top=2)
    with pytest.raises(MismatchError, match="expected the logits of 5 classes"):
        client.read(np.zeros((1, 4)))
    with pytest.raises(SessionError, match="finite"):
        client.read(np.full((1, 5), np.nan))


class Echo:
    """Answers each clip with its first value, and keeps how many clips it was asked for at once."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def run(self, clip: EncryptedClip) -> np.ndarray:
        self.batches.append(len(clip.values))
        return clip.values.reshape(len(clip.values), -1)[:, :1].astype(np.float32)


@pytest.mark.parametrize("in_flight", [1, 3])
def test_views_are_answered_one_at_a_time_in_their_order(client: Client, in_flight: int) -> None:
    clip = client.encrypt(PlainClip(values=np.zeros((7, *client.settings.binding.geometry.clip_shape), np.uint8)))
    clip.values[:, 0, 0] = np.arange(7)
    model, steps = Echo(), []
    logits = run_views(model, clip, in_flight=in_flight, progress=lambda *step: steps.append(step))
    np.testing.assert_array_equal(logits[:, 0], np.arange(7))
    assert model.batches == [1] * 7
    assert steps == [("running the views", done, 7) for done in range(8)]
    steps.clear()
    run_views(
        model, type(clip)(values=clip.values[:1], binding=clip.binding), progress=lambda *step: steps.append(step)
    )
    assert steps == []


def test_clips_are_not_taken_far_ahead_of_their_answers(client: Client) -> None:
    taken = []

    def clips() -> Iterator[EncryptedClip]:
        for number in range(6):
            taken.append(number)
            yield client.encrypt(PlainClip(values=np.zeros((1, *client.orders.geometry.clip_shape), np.uint8)))

    answers = run_each(Echo(), clips(), in_flight=2)
    next(answers)
    assert len(taken) == 2


def test_the_commands_keep_what_they_refused(exported: Path, key_file: Path) -> None:
    sides = ("--key", key_file, "--client", exported / "client")
    assert "--client: only for the address of a model, or for server/" in run_error("run", exported, CLIP, *sides)
    assert f"so pass {exported / 'server'}" in run_error("run", exported, CLIP, *sides)
    assert "--client: only for the address" in run_error("run", exported / "server", CLIP, *sides[2:])


def test_a_further_key_of_an_artifact_needs_its_own_client_folder(fleet: Path) -> None:
    """``fleet`` is the server folder of an artifact with the key of ``exported`` and a, b and c."""
    artifact, camera = fleet.parent, fleet.parent.parent / "a"
    result = run_lcve("run", artifact, CLIP, "--key", camera / "key.bin")
    assert "client is of another key than the given one, whose key folder is a" in result.stderr
    assert f"hint: pass {fleet} together with the client folder that was made with this key" in result.stderr
    run_ok("run", fleet, CLIP, "--key", camera / "key.bin", "--client", camera / "client")
