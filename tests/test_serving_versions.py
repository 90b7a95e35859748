"""One bad version harms itself alone: real damaged versions next to good ones, whose service goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from lcve_deploy.artifact import record_files
from lcve_deploy.errors import ArtifactError, SessionError
from lcve_deploy.files.reading import MAX_JSON_BYTES
from lcve_deploy.runtime import probe
from lcve_deploy.runtime.boundary import version_boundary
from lcve_deploy.serving.models.versions import find_versions
from tests.conftest import run_error
from tests.support.artifacts import edit_json as edit
from tests.support.servers import NAME, Example, Server, ask_grpc, ask_http, make_example, refused, request, serving

OTHER = "other"
GROWN = 2**30
Damage = Callable[[Path], object]

RAISES = """
import lcve_deploy.serving.models.loading as loading
read = loading.read_probe
def read_probe(folder, manifest):
    if (folder / "engines/raise").is_file():
        raise eval((folder / "engines/raise").read_text())
    return read(folder, manifest)
loading.read_probe = read_probe
"""
"""Code for ``before``: a reader that raises what a version's folder says."""


def record(server: Path, name: str) -> None:
    """Write the digest of a changed file into the manifest, as whoever damaged it could."""
    edit(server / "manifest.json", lambda m: m["files"].update({name: vars(record_files(server)[name])}))


def ask_nothing(server: Path) -> None:
    """A probe of no clips, which fits the manifest otherwise."""
    tensors = load_file(server / "probe.safetensors")
    save_file({name: tensor[:0] for name, tensor in tensors.items()}, server / "probe.safetensors")
    record(server, "probe.safetensors")


def write(name: str, content: bytes, *, recorded: bool = False) -> Damage:
    def change(server: Path) -> None:
        (server / name).write_bytes(content)
        if recorded:
            record(server, name)

    return change


def cut(name: str, *, recorded: bool = False) -> Damage:
    def change(server: Path) -> None:
        content = (server / name).read_bytes()
        write(name, content[: len(content) // 2], recorded=recorded)(server)

    return change


def invent(server: Path) -> None:
    """A node that no runtime knows."""
    graph = onnx.load(server / "model.onnx", load_external_data=False)
    graph.graph.node[0].op_type = "Unheard"
    write("model.onnx", graph.SerializeToString(), recorded=True)(server)


def overflow(server: Path) -> None:
    """Numbers beyond those of the protocol."""
    edit(server / "manifest.json", lambda m: m["output"].update(shape=[None, 2**62]))


def raising(error: str) -> Damage:
    def change(server: Path) -> None:
        (server / "engines").mkdir()
        (server / "engines/raise").write_text(error)

    return change


DAMAGES: dict[str, tuple[Damage, str]] = {
    "probe of no clips": (ask_nothing, "does not match the manifest"),
    "probe cut": (cut("probe.safetensors", recorded=True), "cannot be read"),
    "manifest no JSON": (write("manifest.json", b"{"), "is not JSON"),
    "manifest empty": (write("manifest.json", b""), "is not JSON"),
    "manifest too deep": (write("manifest.json", b"[" * 100_000), "nested deeper"),
    "manifest too large": (write("manifest.json", b" " * (MAX_JSON_BYTES + 1)), "at most"),
    "manifest of huge numbers": (overflow, "does not fit|manifest says"),
    "graph garbage": (
        write("model.onnx", b"nothing of a graph" * 99, recorded=True),
        "cannot be used as an ONNX graph",
    ),
    "graph unknown": (invent, "ONNX Runtime cannot open"),
    "graph cut": (cut("model.onnx", recorded=True), "cannot be used as an ONNX graph|cannot open"),
}
RAISED: dict[str, tuple[Damage, str]] = {
    "RecursionError": (raising("RecursionError('too deep')"), "RecursionError: too deep"),
    "MemoryError": (raising("MemoryError()"), "MemoryError"),
    "OverflowError": (raising("OverflowError('too large')"), "OverflowError: too large"),
    "ValueError": (raising("ValueError('min() arg is an empty sequence')"), "ValueError: min"),
    "KeyError": (raising("KeyError('clip')"), "KeyError: 'clip'"),
    "an own kind": (raising("type('Own', (Exception,), {})('\\n' * 9 + 'x' * 9999)"), "Own: x"),
}


@pytest.fixture(scope="module")
def example(exported: Path) -> Example:
    return make_example(exported / "server")


@pytest.fixture(scope="module")
def models(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of versions with one good one."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(exported / "server", folder / "1")
    return folder


@pytest.fixture(scope="module")
def server(models: Path, exported: Path) -> Iterator[Server]:
    """Two models; that of the damaged versions is looked at first."""
    other = f"{OTHER}={exported / 'server'}"
    with serving(models, other, "--versions", 2, before=RAISES) as running:
        yield running


@pytest.fixture
def damaged(models: Path) -> Iterator[Callable[[Damage], Path]]:
    def make(damage: Damage) -> Path:
        damage(shutil.copytree(models / "1", models / "2"))
        return models / "2"

    yield make
    shutil.rmtree(models / "2")


def loads(server: Server, model: str, result: str) -> float:
    return server.value("lcve_model_loads_total", model=model, result=result)


ALL = {**DAMAGES, **RAISED}


@pytest.mark.parametrize(("damage", "says"), ALL.values(), ids=list(ALL))
def test_a_damaged_version_fails_alone(
    damage: Damage, says: str, server: Server, damaged: Callable[[Damage], Path], example: Example
) -> None:
    failed, loaded = loads(server, NAME, "failed"), {name: loads(server, name, "ok") for name in (NAME, OTHER)}
    before = len(server.log())
    damaged(damage)
    server.signal(signal.SIGHUP)
    server.wait_for_more("model loaded", before, model=OTHER)
    assert loads(server, NAME, "failed") == failed + 1
    assert all(loads(server, name, "ok") == count + 1 for name, count in loaded.items())  # a reload loads all again
    (line,) = [line for line in server.log()[before:] if line["event"] == "model not loaded"]
    assert line["version"] == 2
    assert re.search(says, line["error"])
    assert "\n" not in line["error"]
    status, index = request(server.host, server.http, "POST", "/v2/repository/index", b"{}")
    rows = {(row["name"], row["version"]): row for row in json.loads(index)}
    assert status == 200
    assert (rows[NAME, "2"]["state"], rows[NAME, "2"]["reason"]) == ("UNAVAILABLE", line["error"])
    assert rows[NAME, "1"]["state"] == rows[OTHER, "1"]["state"] == "READY"
    for ask, well in ((ask_http, 200), (ask_grpc, "OK")):
        answered, logits = ask(server, example.clip)
        assert answered == well, logits
        np.testing.assert_allclose(logits, example.logits, atol=1e-5)


@pytest.mark.parametrize("name", ["model.onnx", "probe.safetensors"])
def test_a_file_that_has_grown_costs_no_memory(name: str, server: Server, damaged: Callable[[Damage], Path]) -> None:
    """Sparse, so that it takes no place on the disk either."""
    peak, before = server.peak, len(server.log())
    damaged(lambda folder: os.truncate(folder / name, GROWN))
    server.signal(signal.SIGHUP)
    line = server.wait_for_more("model not loaded", before, model=NAME, version=2)
    assert f"{name} has {GROWN} bytes, expected" in line["error"]
    assert server.peak - peak < GROWN // 8


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_version_is_one_clear_error_of_verify(
    damage: Damage, says: str, damaged: Callable[[Damage], Path]
) -> None:
    assert re.search(says, run_error("verify", damaged(damage)))


@pytest.mark.parametrize("name", ["probe of no clips", "manifest too large", "manifest too deep", "graph garbage"])
def test_a_server_does_not_start_with_a_damaged_version_and_says_why(
    name: str, damaged: Callable[[Damage], Path]
) -> None:
    damage, says = DAMAGES[name]
    status, output, errors = refused(f"{NAME}={damaged(damage)}")
    assert (status, output) == (1, "")
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.lower().startswith("error: ")]
    assert re.search(says, line)


@pytest.mark.parametrize("error", [RecursionError("x"), MemoryError(), OverflowError("x"), KeyError("x"), ValueError()])
def test_whatever_a_reader_raises_is_one_clear_error_of_verify(
    error: Exception, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(probe, "read_probe", fail)
    message = run_error("verify", exported / "server")
    assert f"{exported / 'server'} cannot be opened: {type(error).__name__}" in message


def test_the_boundary_passes_what_is_known_and_what_is_not_of_the_version(tmp_path: Path) -> None:
    for kind in (ArtifactError, OSError, KeyboardInterrupt, SystemExit):
        with pytest.raises(kind, match="as it was"), version_boundary(tmp_path):
            raise kind("as it was")
    with pytest.raises(SessionError) as caught, version_boundary(tmp_path):
        raise ZeroDivisionError("x" * 9999)
    assert len(str(caught.value)) < 600
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_version_whose_manifest_cannot_be_read_is_found_with_the_reason(models: Path, tmp_path: Path) -> None:
    (tmp_path / "3").mkdir()
    (tmp_path / "3/manifest.json").write_bytes(b" " * (MAX_JSON_BYTES + 1))
    (tmp_path / "4").mkdir()
    found = find_versions(tmp_path)
    assert found.keys() == {3}
    assert "at most" in found[3].digest
