"""The command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import ClipFile, SecurityKey, SessionOptions, Views, open_session, write_clip_file
from lcve_deploy.artifact import list_engines
from tests.conftest import ORACLE, run_error, run_lcve, run_ok
from tests.engines.helpers import TINY
from tests.keys.helpers import encrypted, enrolled
from tests.support.artifacts import contents


def test_build_run_and_inspect(artifact: Path, server: Path, key_file: Path, clip: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", clip)
    run_ok(
        "encrypt", tmp_path / "clip.npy", "--key", key_file, "--client", artifact / "client", "-o", tmp_path / "c.lcve"
    )
    shown = run_ok(
        *("build", server, "--runtime", "onnxruntime", "--precision", "int8", "--clip", tmp_path / "c.lcve"),
        *("--budget", 0.2),
    )
    assert "onnxruntime-int8: " in shown
    assert "(budget 2.00e-01), top-1 agreement 100% of 1" in shown
    run_ok("run", server, tmp_path / "c.lcve", "--engine", "onnxruntime-int8", "--logits-out", tmp_path / "a.npy")
    run_ok(
        "run", server, tmp_path / "c.lcve", "--engine", "fastest", "--threads", 1, "--logits-out", tmp_path / "b.npy"
    )
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"), atol=1e-5)
    assert "ms a clip, max |Δlogit|" in run_ok("inspect", server)
    assert (
        "is for the graph, not for an engine"
        in run_lcve("run", server, tmp_path / "c.lcve", "--engine", "fastest", "--provider", "cuda").output
    )


def test_build_tries_several_engines(server: Path) -> None:
    report = json.loads(run_ok("build", server, "--precision", "auto", "--budget", 0.01, "--json"))
    assert report["engine"]["name"] in list_engines(server)
    names = {candidate["name"] for candidate in report["candidates"]}
    assert {"onnxruntime-fp32", "onnxruntime-int8", "openvino-fp32", "openvino-bf16"} <= names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runtime", "openvino", "--provider", "cuda"), "no effect with --runtime openvino: --provider"),
        (("--runtime", "onnxruntime", "--batch", "1:2:4"), "no effect with --runtime onnxruntime: --batch"),
        (("--provider", "cuda"), "no effect with --runtime auto: --provider"),
    ],
)
def test_options_without_effect_are_refused(server: Path, arguments: tuple[str, ...], message: str) -> None:
    assert message in run_error("build", server, *arguments)


def test_auto_needs_a_budget(server: Path) -> None:
    assert "needs --budget" in run_error("build", server, "--precision", "auto")
    assert "a name is for a single engine" in run_error("build", server, "--name", "x")


def test_export_builds_an_engine_and_compares_it_with_the_checkpoint(key_file: Path, tmp_path: Path) -> None:
    report = json.loads(
        run_ok(
            *("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags),
            *("--runtime", "onnxruntime", "--precision", "int8", "--json"),
        )
    )
    assert report["engines"]["engine"]["name"] == "onnxruntime-int8"
    assert list_engines(tmp_path / "out/server") == ("onnxruntime-int8",)
    assert 1e-5 < report["engine_parity"]["max_difference"] <= report["engine_parity"]["tolerance"]
    assert len(report["engine_parity"]["controls"]) == 4
    run_ok("verify", tmp_path / "out/server")


def test_an_export_whose_engine_is_over_budget_leaves_nothing(key_file: Path, tmp_path: Path) -> None:
    error = run_error(
        *("export", "--key", key_file, "--ckpt", TINY.path, "-o", tmp_path / "out", *TINY.flags),
        *("--runtime", "onnxruntime", "--precision", "int8", "--budget", 1e-9),
    )
    assert "fails the probe" in error
    assert list(tmp_path.iterdir()) == []


def test_files_that_changed_are_not_said_to_have_their_digests(artifact: Path) -> None:
    server = artifact / "server"
    run_ok("build", server, "--runtime", "onnxruntime")
    assert "digests: ok" in run_ok("verify", server)
    with (server / "model.onnx").open("ab") as file:
        file.write(b"x")
    result = run_lcve("verify", server)
    assert result.exit_code == 1
    assert "digests: ok" not in result.output
    assert "model.onnx has" in result.output


def test_an_engine_serves_keys_that_come_later(
    artifact: Path, server: Path, key: SecurityKey, clip: np.ndarray, tmp_path: Path
) -> None:
    """It is built and proven once; a new key changes no byte of it."""
    run_ok("build", server, "--runtime", "onnxruntime", "--precision", "int8", "--clip", _clip(artifact, key, tmp_path))
    before = contents(server / "engines")
    camera = enrolled(artifact, tmp_path / "camera-7", key)
    assert "camera-7: ok" in run_ok("apply", server, camera)
    session = open_session(server, SessionOptions(engine="onnxruntime-int8"))
    sides = ((artifact / "client", key), (camera / "client", SecurityKey.read(camera / "key.bin")))
    pairs = [encrypted(folder, owner, clip[None]) for folder, owner in sides]
    logits = session.run_batch([clip for _, clip in pairs])
    first, second = (client.plain_order(row[None]) for (client, _), row in zip(pairs, logits, strict=True))
    np.testing.assert_allclose(first, second, atol=1e-3)  # int8
    assert contents(server / "engines") == before


def _clip(artifact: Path, key: SecurityKey, folder: Path) -> Path:
    _, clips = encrypted(artifact / "client", key, np.load(ORACLE / "clip_8x32x32.npy")[None])
    write_clip_file(folder / "clip.lcve", ClipFile(clip=clips, views=Views()))
    return folder / "clip.lcve"


def test_clips_of_a_key_that_is_not_there_build_nothing(
    artifact: Path, server: Path, key: SecurityKey, tmp_path: Path
) -> None:
    path = _clip(artifact, key, tmp_path)
    shutil.rmtree(server / "keys/main")
    assert "there is no key folder for" in run_error("build", server, "--runtime", "onnxruntime", "--clip", path)
    assert list_engines(server) == ()
