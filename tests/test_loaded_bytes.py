"""What was checked is what is loaded: folders that change between the digest and the runtime, and while both work."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest

from lcve_deploy import EncryptedClip, SecurityKey, Session, SessionOptions, open_session
from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.inside import hold_file, open_inside
from tests.conftest import run_ok
from tests.test_export import export_tiny

OPENINGS = 30


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One model under two keys: every file but ``model.onnx`` differs, and all have the same sizes."""
    root = tmp_path_factory.mktemp("two")
    first, second = (
        export_tiny(root / name, SecurityKey(bytes([n]) * 32)) / "server" for n, name in ((1, "a"), (2, "b"))
    )
    return first, second


@pytest.fixture
def folder(two: tuple[Path, Path], tmp_path: Path) -> Path:
    """The first, to be changed."""
    return Path(shutil.copytree(two[0], tmp_path / "server"))


def question(session: Session) -> EncryptedClip:
    shape = [size or 1 for size in session.model.input.shape]
    values = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return EncryptedClip(values=values, binding=session.model.binding)


def answer(session: Session) -> np.ndarray:
    return session.run(question(session))


def answers(two: tuple[Path, Path]) -> dict[str, np.ndarray]:
    """By the key id of the manifest."""
    sessions = [open_session(place) for place in two]
    return {session.model.binding.key_id: answer(session) for session in sessions}


def replace_all(folder: Path, other: Path) -> None:
    """Put another artifact's files in place of a folder's, each in one step."""
    for name in ("keyed.safetensors", "manifest.json", "model.onnx", "probe.safetensors"):
        shutil.copy(other / name, folder.parent / "new")
        (folder.parent / "new").replace(folder / name)


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_files_replaced_after_their_digest_was_checked_are_not_loaded(
    folder: Path, two: tuple[Path, Path], mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = answer(open_session(two[0]))
    real = onnxruntime.InferenceSession

    def swap_then_open(*arguments: object, **more: object) -> object:
        replace_all(folder, two[1])
        return real(*arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", swap_then_open)
    session = open_session(folder, SessionOptions(mapped=mapped))
    monkeypatch.undo()
    np.testing.assert_array_equal(answer(session), expected)
    assert session.model == read_manifest(two[0]).model != read_manifest(folder).model


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_an_engine_on_replaced_files_gets_those_that_were_checked(
    folder: Path, two: tuple[Path, Path], runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ok("build", folder, "--runtime", runtime, "--name", "engine")
    expected = answer(open_session(folder, SessionOptions(engine="engine")))
    module, name = (openvino, "Core") if runtime == "openvino" else (onnxruntime, "InferenceSession")
    real = getattr(module, name)

    def swap_then_open(*arguments: object, **more: object) -> object:
        replace_all(folder, two[1])
        return real(*arguments, **more)

    monkeypatch.setattr(module, name, swap_then_open)
    session = open_session(folder, SessionOptions(engine="engine"))
    monkeypatch.undo()
    np.testing.assert_array_equal(answer(session), expected)


def test_openvino_answers_as_from_files(folder: Path) -> None:
    """It reads the graph with inputs in place of weights; opened by itself, it reads the files."""
    run_ok("build", folder, "--runtime", "openvino", "--name", "engine")
    session = open_session(folder, SessionOptions(engine="engine"))
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(folder / "model.onnx", "CPU", hints)
    np.testing.assert_array_equal(answer(session), compiled({"clips": question(session).values})[0])


def test_the_manifest_that_was_read_and_not_the_one_that_is_there_now_is_checked(
    folder: Path, two: tuple[Path, Path]
) -> None:
    manifest = read_manifest(folder)
    replace_all(folder, two[1])
    with pytest.raises(ArtifactError, match=r"keyed\.safetensors has a different SHA-256"):
        read_graph(folder / "model.onnx", manifest.files)


def test_a_mapped_file_that_is_written_to_is_noticed(
    folder: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession

    def write_then_open(*arguments: object, **more: object) -> object:
        (folder / "keyed.safetensors").write_bytes((two[1] / "keyed.safetensors").read_bytes())
        return real(*arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", write_then_open)
    with pytest.raises(ArtifactError, match=r"keyed\.safetensors changed while"):
        open_session(folder)


def test_a_file_that_is_read_into_memory_may_change(folder: Path, two: tuple[Path, Path]) -> None:
    session = open_session(folder, SessionOptions(mapped=False))
    expected = answer(session)
    for name in ("keyed.safetensors", "model.onnx"):
        (folder / name).write_bytes(b"")
    np.testing.assert_array_equal(answer(session), expected)


def test_what_is_on_disk_for_a_library_is_private_and_goes(folder: Path) -> None:
    files = read_graph(folder / "model.onnx")
    with files.on_disk() as path:
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert {place.name for place in path.parent.iterdir()} == files.names
        assert all((path.parent / name).read_bytes() == (folder / name).read_bytes() for name in files.names)
    assert not path.parent.exists()


def test_a_file_is_held_whole(folder: Path) -> None:
    content = (folder / "keyed.safetensors").read_bytes()
    with open_inside(folder, "keyed.safetensors") as file:
        assert bytes(hold_file(file, mapped=False).data) == content
    with open_inside(folder, "keyed.safetensors") as file:
        assert bytes(hold_file(file, mapped=True).data) == content


def _links(now: Path, two: tuple[Path, Path]) -> Iterator[None]:
    while True:
        for place in two:
            (now.parent / "next").symlink_to(place)
            (now.parent / "next").replace(now)
            yield


def _files(now: Path, two: tuple[Path, Path]) -> Iterator[None]:
    while True:
        for place in two:
            replace_all(now, place)
            yield


SWAPS: dict[str, Callable[[Path, tuple[Path, Path]], Iterator[None]]] = {"folder": _links, "files": _files}


@pytest.mark.parametrize("swaps", SWAPS.values(), ids=SWAPS)
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_a_manifest_never_gets_the_weights_of_another(
    swaps: Callable[[Path, tuple[Path, Path]], Iterator[None]],
    mapped: bool,
    folder: Path,
    two: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The race itself: whatever a swap meets is one artifact or a refusal."""
    expected, now, stop = answers(two), folder, threading.Event()
    if swaps is _links:
        now = tmp_path / "now"
        now.symlink_to(two[0])

    def swap() -> None:
        for _ in swaps(now, two):
            if stop.wait(0.002):
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread = threading.Thread(target=swap)
    thread.start()
    outcomes = []
    try:
        for _ in range(OPENINGS):
            try:
                session = open_session(now, SessionOptions(mapped=mapped))
            except ArtifactError as error:
                outcomes.append(str(error))
                continue
            outcomes.append("opened")
            np.testing.assert_array_equal(answer(session), expected[session.model.binding.key_id])
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len(outcomes) == OPENINGS
    assert np.array_equal(answer(open_session(two[0])), expected[read_manifest(two[0]).binding.key_id])
