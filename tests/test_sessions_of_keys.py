"""Sessions with many keys: batches that mix them, folders that come, change and go, and folders that are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lcve_deploy import SessionOptions, open_session, verify_server
from lcve_deploy.artifact import EngineKind, EngineRecord, find_keys, open_key, read_manifest, read_probe
from lcve_deploy.artifact.names import KEYED, MODEL
from lcve_deploy.clips import EncryptedClip
from lcve_deploy.errors import ArtifactError, MismatchError, UnknownKeyError
from lcve_deploy.model.precision import Precision
from lcve_deploy.runtime.backends.openvino import OpenVinoSession
from lcve_deploy.runtime.key_folders import KeyFolders
from lcve_deploy.runtime.session import Session
from tests.support.artifacts import binding_of, edit_json, key_folder, random_clip

NAMES = ("main", "a", "b", "c")


@pytest.fixture
def server(fleet: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fleet, tmp_path / "server"))


def openvino(server: Path, options: SessionOptions) -> OpenVinoSession:
    manifest = read_manifest(server)
    engine = EngineRecord(
        name="x", kind=EngineKind.OPENVINO, precision=Precision.FP32, target="", manifest_sha256="", builder={}
    )
    return OpenVinoSession(server / MODEL, manifest.model, engine, options, folders=KeyFolders(server, manifest))


BACKENDS: dict[str, Callable[[Path, SessionOptions], Session]] = {"onnxruntime": open_session, "openvino": openvino}


def damaged(folder: Path) -> None:
    data = bytearray((folder / KEYED).read_bytes())
    data[-1] ^= 1
    (folder / KEYED).write_bytes(data)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("max_keys", [1, 2, 64])
def test_a_batch_that_mixes_keys_answers_as_each_clip_alone(fleet: Path, backend: str, max_keys: int) -> None:
    session = BACKENDS[backend](fleet, SessionOptions(max_keys=max_keys))
    order = ("main", "a", "b", "a", "c", "main")
    clips = [random_clip(fleet, 1 + i % 2, seed=i, name=name) for i, name in enumerate(order)]
    logits = session.run_batch(clips)
    assert logits.dtype == np.float32
    assert logits.shape == (9, 5)
    alone = np.concatenate([open_session(fleet).run(clip) for clip in clips])
    np.testing.assert_allclose(logits, alone, atol=1e-5)
    assert len(session.bank.keys()) == min(max_keys, 4)
    swapped = [EncryptedClip(values=clip.values, binding=binding_of(fleet, "b")) for clip in clips[:1]]
    assert np.abs(session.run_batch(swapped) - logits[:1]).max() > 1e-3


def test_threads_with_few_rows_get_their_own_answers(fleet: Path) -> None:
    session = open_session(fleet, SessionOptions(max_keys=2))
    clips = {name: random_clip(fleet, 1, seed=3, name=name) for name in NAMES}
    alone = {name: session.run(clip) for name, clip in clips.items()}
    with ThreadPoolExecutor(4) as threads:
        for name, logits in threads.map(lambda name: (name, session.run(clips[name])), NAMES * 25):
            np.testing.assert_allclose(logits, alone[name], atol=1e-6)


def test_a_key_that_is_not_there_is_unknown_until_its_folder_is_copied_in(server: Path, tmp_path: Path) -> None:
    clip = random_clip(server, name="a")
    shutil.move(key_folder(server, "a"), tmp_path / "a")
    session = open_session(server)
    with pytest.raises(UnknownKeyError, match=clip.binding.key_id) as caught:
        session.run(clip)
    assert f"copy its key folder to {server / 'keys'}/" in caught.value.hint
    shutil.move(tmp_path / "a", key_folder(server, "under-another-name"))
    assert session.refresh_keys().added == {clip.binding.key}
    assert session.run(clip).shape == (1, 5)
    shutil.rmtree(key_folder(server, "under-another-name"))
    assert session.refresh_keys().gone == {clip.binding.key}
    with pytest.raises(UnknownKeyError):
        session.run(clip)


def test_a_damaged_key_is_refused_alone(server: Path) -> None:
    damaged(key_folder(server, "a"))
    session = open_session(server)
    with pytest.raises(ArtifactError, match=KEYED):
        session.run(random_clip(server, name="a"))
    assert session.run(random_clip(server, name="b")).shape == (1, 5)
    report = verify_server(server)
    assert {name for name, check in report.keys.items() if not check.ok} == {"a"}
    assert report.model.ok
    assert not report.ok
    assert KEYED in report.keys["a"].problem


def test_a_key_of_another_model_is_refused_alone(server: Path) -> None:
    edit_json(key_folder(server, "a") / "key.json", lambda content: content.update(model_sha256="0" * 64))
    session = open_session(server)
    assert "made for the model" in session.folders.refused["a"]  # type: ignore[union-attr]
    with pytest.raises(UnknownKeyError):
        session.run(random_clip(server, name="a"))
    assert session.run(random_clip(server, name="b")).shape == (1, 5)
    assert verify_server(server).keys["a"].key is None


def test_two_folders_for_one_key_are_one_key_and_a_refusal(server: Path) -> None:
    shutil.copytree(key_folder(server, "a"), key_folder(server, "z"))
    session = open_session(server)
    assert session.folders is not None
    assert len(session.folders.keys) == 4
    assert "the same key as a" in session.folders.refused["z"]


def test_a_key_whose_folder_changes_is_read_again(server: Path) -> None:
    session, clip = open_session(server), random_clip(server, name="a")
    before = session.run(clip)
    edit_json(key_folder(server, "a") / "key.json", lambda content: content["made_by"].update(more="1"))
    assert session.bank.keys() == (clip.binding.key,)
    assert session.refresh_keys().changed == {clip.binding.key}
    assert session.bank.keys() == ()
    np.testing.assert_array_equal(session.run(clip), before)
    assert not session.refresh_keys().stale


def test_a_folder_is_not_read_again_until_it_changes(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(folder: Path, *rest: Any) -> Any:
        opened.append(folder.name)
        return open_key(folder, *rest)

    monkeypatch.setattr("lcve_deploy.runtime.key_folders.open_key", counted)
    monkeypatch.setattr("lcve_deploy.runtime.key_folders._SETTLED_SECONDS", -60.0)
    folders = KeyFolders(server, read_manifest(server))
    assert sorted(opened) == sorted(NAMES)
    opened.clear()
    folders.refresh()
    assert opened == []
    edit_json(key_folder(server, "b") / "key.json", lambda content: content["made_by"].update(more="1"))
    folders.refresh()
    assert opened == ["b"]


def test_a_clip_of_another_geometry_is_refused_before_any_key_is_read(fleet: Path) -> None:
    session = open_session(fleet)
    binding = binding_of(fleet)
    other = type(binding)(
        scheme=binding.scheme,
        key_id=binding.key_id,
        salt=binding.salt,
        geometry=type(binding.geometry).parse("4x32x32x3/2x8x8"),
        layout=binding.layout,
    )
    shape = other.layout.shape(other.geometry)
    with pytest.raises(MismatchError, match="geometry"):
        session.run(EncryptedClip(values=np.zeros((1, *shape), np.uint8), binding=other))
    assert session.bank.keys() == ()


def test_verify_server_proves_the_model_and_every_key_in_one_row(fleet: Path) -> None:
    report = verify_server(fleet)
    assert report.ok
    assert list(report.keys) == sorted(NAMES)
    assert report.to_json()["keys"]["a"]["ok"] is True
    assert find_keys(fleet).keys() == report.keys.keys()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_probe_of_a_model_leaves_nothing_in_the_bank(fleet: Path, backend: str) -> None:
    session: Session = BACKENDS[backend](fleet, SessionOptions(max_keys=1))
    probe = read_probe(fleet, read_manifest(fleet))
    clip = random_clip(fleet)
    before = session.run(clip)
    np.testing.assert_allclose(session.run_with(probe.clip, probe.tensors), probe.logits, atol=1e-4)
    assert session.bank.keys() == ()
    np.testing.assert_array_equal(session.run(clip), before)


def test_no_clip_at_all_is_an_error(fleet: Path) -> None:
    with pytest.raises(ValueError, match="expected at least one clip, received none"):
        open_session(fleet).run_batch([])
    with pytest.raises(ValueError, match="at least 1 key in memory, received 0"):
        SessionOptions(max_keys=0)
