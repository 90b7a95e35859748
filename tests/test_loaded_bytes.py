"""What was checked is what is loaded: folders that change between the digest and the runtime, and while both work."""

from __future__ import annotations

import dataclasses
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
import pytest
import torch

from lcve_deploy import SecurityKey, Session, SessionOptions, open_session
from lcve_deploy.artifact import read_manifest
from lcve_deploy.artifact.graph_files import read_graph
from lcve_deploy.errors import ArtifactError
from lcve_deploy.exporters import storage
from lcve_deploy.files.inside import hold_file, open_inside
from lcve_deploy.runtime.opening import open_server
from tests.conftest import ORACLES, SALT, SECRET, run_ok
from tests.test_export import export_tiny

TINY = ORACLES["v1_gamma"]
DATA = "model.onnx.data"
CHANGED = "backbone.blocks.0.mlp.fc1.weight"
OPENINGS = 30


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that differ in one weight, under one key: their data has the same size."""
    root = tmp_path_factory.mktemp("two")
    other = dataclasses.replace(TINY, path=with_another_weight(TINY.path, root / "other.pth"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "EXTERNAL_DATA_BYTES", 10_000)
        first, second = (
            export_tiny(root / name, SecurityKey(SECRET), oracle, salt=SALT) / "server"
            for name, oracle in (("a", TINY), ("b", other))
        )
    assert (first / DATA).stat().st_size == (second / DATA).stat().st_size
    return first, second


def with_another_weight(checkpoint: Path, target: Path) -> Path:
    content = torch.load(checkpoint, weights_only=False)
    weights = next(part for part in (content, *content.values()) if isinstance(part, dict) and CHANGED in part)
    weights[CHANGED] = 2 * weights[CHANGED]
    torch.save(content, target)
    return target


@pytest.fixture
def folder(two: tuple[Path, Path], tmp_path: Path) -> Path:
    """The first, to be changed."""
    return Path(shutil.copytree(two[0], tmp_path / "server"))


def question(session: Session) -> np.ndarray:
    shape = [size or 1 for size in session.model.input.shape]
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def tensors(session: Session) -> dict[str, np.ndarray]:
    """Keyed tensors of nobody; a model answers by its weights."""
    draw = np.random.default_rng(1)
    shapes = {spec.name.removeprefix("bank."): [size or 0 for size in spec.shape[1:]] for spec in session.model.bank}
    return {name: draw.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def answer(session: Session) -> np.ndarray:
    return session.run_with(question(session), tensors(session))


def answers(two: tuple[Path, Path]) -> dict[str, np.ndarray]:
    """By the digest of the manifest."""
    found = {read_manifest(place).digest: answer(open_session(place)) for place in two}
    first, second = found.values()
    assert np.abs(first - second).max() > 1e-3
    return found


def replace_all(folder: Path, other: Path) -> None:
    """Put another artifact's files in place of a folder's, each in one step."""
    for name in ("manifest.json", "model.onnx", DATA, "probe.safetensors"):
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
    assert read_manifest(folder).digest == read_manifest(two[1]).digest


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
    bank = {f"bank.{name}": tensor[None] for name, tensor in tensors(session).items()}
    feed = {**bank, "clips": question(session), "key": np.zeros(1, np.int64)}
    np.testing.assert_array_equal(answer(session), compiled(feed)[0])


def test_the_manifest_that_was_read_and_not_the_one_that_is_there_now_is_checked(
    folder: Path, two: tuple[Path, Path]
) -> None:
    manifest = read_manifest(folder)
    replace_all(folder, two[1])
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data has a different SHA-256"):
        read_graph(folder / "model.onnx", manifest.files)


def test_a_mapped_file_that_is_written_to_is_noticed(
    folder: Path, two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime.InferenceSession

    def write_then_open(*arguments: object, **more: object) -> object:
        (folder / DATA).write_bytes((two[1] / DATA).read_bytes())
        return real(*arguments, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", write_then_open)
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data changed while"):
        open_session(folder)


def test_a_file_that_is_read_into_memory_may_change(folder: Path, two: tuple[Path, Path]) -> None:
    session = open_session(folder, SessionOptions(mapped=False))
    expected = answer(session)
    for name in (DATA, "model.onnx"):
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
    content = (folder / DATA).read_bytes()
    with open_inside(folder, DATA) as file:
        assert bytes(hold_file(file, mapped=False).data) == content
    with open_inside(folder, DATA) as file:
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
                manifest, session = open_server(now, SessionOptions(mapped=mapped))
            except ArtifactError as error:
                outcomes.append(str(error))
                continue
            outcomes.append("opened")
            np.testing.assert_array_equal(answer(session), expected[manifest.digest])
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert len(outcomes) == OPENINGS
    assert np.array_equal(answer(open_session(two[0])), expected[read_manifest(two[0]).digest])
