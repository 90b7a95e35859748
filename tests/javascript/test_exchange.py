"""Files that Python and ``clients/js/`` exchange: the same bytes, the same predictions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lcve_deploy import (
    Binding,
    Client,
    ClientSettings,
    ClipFile,
    ClipGeometry,
    Layout,
    PlainClip,
    Preprocess,
    SecurityKey,
    Views,
)
from lcve_deploy.artifact.client_settings import ClientFile
from lcve_deploy.clipfile import dump_clip, read_clip_file
from lcve_deploy.model.predictions import ProblemType
from tests.conftest import SALT, SECRET
from tests.support.node import JavaScriptClient, JavaScriptError

PROBLEM_TYPES = st.sampled_from(list(ProblemType))
shared_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


@st.composite
def geometries(draw: st.DrawFn) -> ClipGeometry:
    """Small ones, of every number of channels and of cubes with three different sides."""
    cube = draw(st.tuples(*[st.integers(1, 4)] * 3))
    frames, height, width = (side * draw(st.integers(1, 4)) for side in cube)
    return ClipGeometry(frames=frames, height=height, width=width, channels=draw(st.integers(1, 4)), cube=cube)


@st.composite
def clients(draw: st.DrawFn) -> tuple[SecurityKey, Client]:
    """A key, and the client of an artifact with it."""
    key, geometry = SecurityKey(draw(st.binary(min_size=32, max_size=32))), draw(geometries())
    binding = Binding(
        scheme="lcve-1",
        key_id=key.key_id,
        salt=draw(st.binary(min_size=16, max_size=16)).hex(),
        geometry=geometry,
        layout=draw(st.sampled_from(list(Layout))),
    )
    classes = draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=2, max_size=12))
    return key, Client.of(
        ClientSettings(
            binding=binding,
            classes=tuple(classes),
            problem_type=draw(PROBLEM_TYPES),
            labels=draw(st.sampled_from(["hidden", "shown"])),
            preprocess=Preprocess(frames=geometry.frames, crop=(geometry.height, geometry.width)),
        ),
        key,
    )


def client_json(client: Client) -> bytes:
    content = ClientFile(settings=client.settings, manifest_sha256="0" * 64).to_json()
    return json.dumps(content, ensure_ascii=False).encode()


def python_file(client: Client, clips: np.ndarray, views: Views) -> bytes:
    file = io.BytesIO()
    dump_clip(ClipFile(clip=client.encrypt(PlainClip(values=clips)), views=views), file)
    return file.getvalue()


@shared_fixture
@given(clients(), st.integers(1, 3), st.integers(1, 2), st.randoms(use_true_random=False))
def test_both_write_the_same_file_and_read_it(
    javascript: JavaScriptClient, made: tuple[SecurityKey, Client], temporal: int, spatial: int, random: object
) -> None:
    key, client = made
    views, shape = Views(temporal=temporal, spatial=spatial), client.settings.binding.geometry.clip_shape
    generator = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    clips = generator.integers(0, 256, (views.count, *shape), dtype=np.uint8)
    side: dict[str, bytes | str] = {"key": key.to_bytes(), "settings": client_json(client)}
    expected = python_file(client, clips, views)
    assert javascript.call_for_bytes("encrypt", clips=clips.tobytes(), views=str(views), **side) == expected
    assert javascript.call_for_bytes("decrypt", file=expected, **side) == clips.tobytes()


@shared_fixture
@given(clients(), st.integers(1, 3), st.integers(1, 12), st.randoms(use_true_random=False))
def test_both_read_the_same_predictions(
    javascript: JavaScriptClient, made: tuple[SecurityKey, Client], views: int, top: int, random: object
) -> None:
    key, client = made
    generator = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    logits = (generator.normal(size=(views, len(client.settings.classes))) * 10).astype(np.float32)
    received = javascript.call(
        "read", key=key.to_bytes(), settings=client_json(client), logits=logits.tobytes(), top=top
    )
    expected = [prediction.to_json() for prediction in client.read(logits, top=top)]
    assert [(one["index"], one["name"]) for one in received] == [(one["index"], one["name"]) for one in expected]
    for one, other in zip(received, expected, strict=True):
        assert set(one) == set(other)
        score = "value" if "value" in other else "probability"
        assert one[score] == pytest.approx(other[score], rel=1e-12, abs=1e-300)


@shared_fixture
@given(st.binary(min_size=32, max_size=32), st.from_regex(r"[a-z0-9._-]{1,64}", fullmatch=True))
def test_both_derive_the_same_keys(javascript: JavaScriptClient, secret: bytes, name: str) -> None:
    key = SecurityKey(secret)
    assert javascript.call("key", key=key.to_bytes()) == key.key_id
    assert javascript.call("key", key=key.to_bytes(), name=name) == key.derive(name).key_id


@pytest.mark.parametrize("text", ["16x224x224x3/2x16x16", "64x64x64x1/1x1x2"])
def test_geometries_of_real_models(javascript: JavaScriptClient, text: str, tmp_path: Path) -> None:
    """The second has more cubes than one piece of keystream has draws, and so do both together."""
    geometry, key = ClipGeometry.parse(text), SecurityKey(SECRET)
    binding = Binding(scheme="lcve-1", key_id=key.key_id, salt=SALT.hex(), geometry=geometry, layout=Layout.VIDEO)
    preprocess = Preprocess(frames=geometry.frames, crop=(geometry.height, geometry.width))
    settings = ClientSettings(
        binding=binding,
        classes=("a", "b"),
        problem_type=ProblemType.SINGLE_LABEL,
        labels="hidden",
        preprocess=preprocess,
    )
    client = Client.of(settings, key)
    clips = np.random.default_rng(0).integers(0, 256, (1, *geometry.clip_shape), dtype=np.uint8)
    side: dict[str, bytes | str] = {"key": key.to_bytes(), "settings": client_json(client)}
    file = javascript.call_for_bytes("encrypt", clips=clips.tobytes(), views="1x1", **side)
    assert file == python_file(client, clips, Views())
    (tmp_path / "a.lcve").write_bytes(file)
    np.testing.assert_array_equal(client.decrypt(read_clip_file(tmp_path / "a.lcve").clip).values, clips)


def test_the_file_is_that_of_lcve_encrypt(
    javascript: JavaScriptClient, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from lcve_deploy.cli import lcve

    geometry = Client.open(exported / "client", SecurityKey.read(key_file)).settings.binding.geometry
    clip = np.random.default_rng(1).integers(0, 256, geometry.clip_shape, dtype=np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    command = ["encrypt", tmp_path / "clip.npy", "--key", key_file, "--client", exported / "client"]
    done = CliRunner().invoke(lcve, [*map(str, command), "-o", str(tmp_path / "clip.lcve")], catch_exceptions=False)
    assert done.exit_code == 0
    file = javascript.call_for_bytes(
        "encrypt",
        key=key_file.read_bytes(),
        settings=(exported / "client/client.json").read_bytes(),
        clips=clip.tobytes(),
        views="1x1",
    )
    assert file == (tmp_path / "clip.lcve").read_bytes()


def test_another_key_and_the_clip_of_another_artifact_are_refused(javascript: JavaScriptClient) -> None:
    geometry = ClipGeometry.parse("2x4x4x3/1x2x2")
    key, other = SecurityKey(SECRET), SecurityKey(SECRET).derive("other")

    def made(holder: SecurityKey, salt: bytes) -> Client:
        binding = Binding(
            scheme="lcve-1", key_id=holder.key_id, salt=salt.hex(), geometry=geometry, layout=Layout.CUBES
        )
        settings = ClientSettings(
            binding=binding,
            classes=("a", "b"),
            problem_type=ProblemType.SINGLE_LABEL,
            labels="hidden",
            preprocess=Preprocess(frames=2, crop=(4, 4)),
        )
        return Client.of(settings, holder)

    clips = np.zeros((1, *geometry.clip_shape), np.uint8)
    mine, settings = made(key, SALT), client_json(made(key, SALT))
    with pytest.raises(JavaScriptError, match="key id") as refused:
        javascript.call("encrypt", key=other.to_bytes(), settings=settings, clips=clips.tobytes(), views="1x1")
    assert refused.value.kind == "MismatchError"
    for theirs in (made(other, SALT), made(key, bytes(16))):
        with pytest.raises(JavaScriptError, match="does not belong") as refused:
            javascript.call("decrypt", key=key.to_bytes(), settings=settings, file=python_file(theirs, clips, Views()))
        assert refused.value.kind == "MismatchError"
    assert python_file(mine, clips, Views()) != python_file(made(key, bytes(16)), clips, Views())
