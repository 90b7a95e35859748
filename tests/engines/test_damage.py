"""Damaged, foreign, in the way."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lcve_deploy import EncryptedClip, SessionOptions, open_session
from lcve_deploy.artifact import read_engine
from lcve_deploy.artifact.engines import engine_folder
from lcve_deploy.errors import (
    ArtifactError,
    ExistsError,
    MismatchError,
    SessionError,
)
from lcve_deploy.verbs.build import BuildOptions, build
from tests.conftest import run_lcve, run_ok
from tests.engines.helpers import INT8, TINY


def test_an_engine_that_is_there_is_never_overwritten(server: Path) -> None:
    record = build(server, BuildOptions())
    with pytest.raises(ExistsError):
        build(server, BuildOptions())
    assert read_engine(server, record.name) == record


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_budget(path: Path, budget: str) -> None:
    content = json.loads(path.read_text())
    content["options"]["budget"] = budget
    path.write_text(json.dumps(content))


def linked(path: Path) -> None:
    """Put a link to the very same content in its place."""
    away = path.parents[2 if path.is_dir() else 3] / f"{path.name}-moved"  # outside of the server folder
    path.rename(away)
    path.symlink_to(away)


@pytest.mark.parametrize(
    ("breakage", "message"),
    [
        (lambda f: flip_a_byte(f / "model.onnx"), "a different SHA-256"),
        (lambda f: (f / "model.onnx").write_bytes(b""), "has 0 bytes"),
        (lambda f: (f / "model.onnx").unlink(), "is missing"),
        (lambda f: (f / "model.onnx.data").write_bytes(b"x"), "is not listed"),
        (lambda f: (f / "engine.json").write_text("{"), "is not JSON"),
        (lambda f: (f / "engine.json").write_text("{}"), "name: missing"),
        (lambda f: with_budget(f / "engine.json", "abc"), "options.budget: expected a finite number"),
        (lambda f: with_budget(f / "engine.json", "inf"), "options.budget: expected a finite number"),
        (lambda f: (f / "model.onnx.data").symlink_to(f / "model.onnx"), "model.onnx.data is a link"),
        (lambda f: linked(f / "model.onnx"), "model.onnx is a link"),
        (lambda f: linked(f / "engine.json"), "engine.json is a link"),
        (lambda f: linked(f), "onnxruntime-int8 is a link"),
        (lambda f: (f / "more").mkdir(), "more is a folder or special file"),
        (lambda f: os.mkfifo(f / "pipe"), "pipe is a folder or special file"),
    ],
    ids=[
        *("flipped", "empty", "missing", "unlisted", "cut", "no fields", "no number", "no bound"),
        *("a link more", "a link instead", "a linked record", "a linked folder", "a folder", "a pipe"),
    ],
)
def test_an_engine_that_does_not_hold_is_refused(
    server: Path, encrypted: EncryptedClip, breakage: Callable[[Path], None], message: str
) -> None:
    name = build(server, INT8, clips=encrypted).name
    breakage(engine_folder(server, name))
    with pytest.raises(ArtifactError, match=message):
        open_session(server, SessionOptions(engine=name))
    result = run_lcve("verify", server)
    assert result.exit_code == 1
    assert f"engine {name}: FAILED" in result.stdout


def test_an_engine_of_another_model_is_refused(server: Path, exported: Path, key_file: Path, tmp_path: Path) -> None:
    name = build(server, BuildOptions()).name
    run_ok("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "other", *TINY.flags)
    shutil.copytree(server / "engines", tmp_path / "other/server/engines")
    with pytest.raises(SessionError, match="was built from another model"):
        open_session(tmp_path / "other/server", SessionOptions(engine=name))


def test_an_engine_that_is_not_there(server: Path) -> None:
    build(server, BuildOptions())
    with pytest.raises(ArtifactError, match=r"has no engine 'fast'; it has: onnxruntime-fp32"):
        open_session(server, SessionOptions(engine="fast"))
    with pytest.raises(ArtifactError, match="expected an engine name"):
        open_session(server, SessionOptions(engine="../client"))


def test_a_clip_of_another_artifact_is_refused_before_anything_is_built(server: Path, encrypted: EncryptedClip) -> None:
    foreign = EncryptedClip(values=encrypted.values, binding=dataclasses.replace(encrypted.binding, salt="0" * 32))
    with pytest.raises(MismatchError):
        build(server, INT8, clips=foreign)
    assert not (server / "engines").exists()
