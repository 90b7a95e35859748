"""Files that change while they are opened: a clear error. None blocks, fills memory or ends a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lcve_deploy import SecurityKey
from lcve_deploy.artifact import digests
from lcve_deploy.artifact.digests import hold_checked, record_files
from lcve_deploy.artifact.engine_secret import read_secret
from lcve_deploy.artifact.signature import PublicKey, read_signature
from lcve_deploy.errors import ArtifactError, LcveError, WriteError
from lcve_deploy.exporters import storage
from lcve_deploy.files import reading
from lcve_deploy.files.writing import new_folder, pinned_folder
from tests.test_export import export_tiny

SPARSE = 2**30
READERS: dict[str, Callable[[Path], Any]] = {
    "JSON": lambda path: reading.read_bounded(path, "JSON", ArtifactError),
    "safetensors": lambda path: reading.check_safetensors(path, "tensors", ArtifactError),
    "array": lambda path: reading.map_array(path, "an array", ArtifactError),
    "signature": lambda path: read_signature(path.parent),
    "public key": PublicKey.read,
    "engine secret": read_secret,
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(
    read: Callable[[Path], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.sig"
    path.write_bytes(b"{}")
    real = reading.require_file

    def swap(*arguments: Any) -> int:
        size = real(*arguments)
        path.unlink()
        os.mkfifo(path)
        return size

    monkeypatch.setattr(reading, "require_file", swap)
    with pytest.raises(LcveError, match=r"received a pipe, which is not .*manifest\.sig$"):
        read(path)


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_a_file_of_another_size_is_refused_before_it_is_read(
    tmp_path: Path, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"graph")
    files = record_files(tmp_path)
    os.truncate(tmp_path / "model.onnx", SPARSE)
    monkeypatch.setattr(digests, "hold_file", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(ArtifactError, match=f"model.onnx has {SPARSE} bytes, expected 5"):
        hold_checked(tmp_path, "model.onnx", files, mapped=mapped)


def test_a_folder_that_is_being_filled_is_pinned(tmp_path: Path) -> None:
    with new_folder(tmp_path / "new") as stage, pinned_folder(stage) as pinned:
        stage.rename(tmp_path / "away")
        stage.mkdir()
        (pinned / "file").write_bytes(b"x")
    assert [path.name for path in (tmp_path / "away").iterdir()] == ["file"]
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(WriteError, match="open was replaced"), pinned_folder(tmp_path / "open"):
        pass


CUT = """
import os, sys
from pathlib import Path
import onnxruntime
from lcve_deploy import open_session
from lcve_deploy.errors import ArtifactError
real = onnxruntime.InferenceSession
def cut_then_return(*arguments, **more):
    session = real(*arguments, **more)
    os.truncate(sys.argv[1], 0)
    return session
onnxruntime.InferenceSession = cut_then_return
try:
    open_session(Path(sys.argv[1]).parent)
except ArtifactError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data"])
def test_a_mapped_file_that_is_cut_while_it_is_opened_is_an_error(
    name: str, key: SecurityKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: reading what was cut off would end it by SIGBUS."""
    monkeypatch.setattr(storage, "EXTERNAL_DATA_BYTES", 10_000)
    server = export_tiny(tmp_path / "service", key) / "server"
    done = subprocess.run([sys.executable, "-c", CUT, server / name], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{name} changed while" in done.stdout
