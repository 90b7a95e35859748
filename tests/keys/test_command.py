"""The commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy import (
    SecurityKey,
)
from lcve_deploy.artifact.delta import DELTA
from tests.conftest import ORACLES, SECRET, run_error, run_ok
from tests.rotate.helpers import (
    NEW_KEY,
    NEW_SALT,
)


def test_the_commands_from_key_to_prediction(
    artifact: Path, key_file: Path, clip: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "clip.npy", clip)
    NEW_KEY.write(tmp_path / "new.bin")
    shown = run_ok("rotate", artifact, "--key", key_file, "--new-key", tmp_path / "new.bin", "--salt", NEW_SALT.hex())
    assert f"key id {NEW_KEY.key_id}, salt {NEW_SALT.hex()}" in shown
    assert "note: the parity figures are those of the export" in shown
    whole = artifact.with_name("service-rotated")
    run_ok("run", whole, tmp_path / "clip.npy", "--key", tmp_path / "new.bin", "--logits-out", tmp_path / "a.npy")
    np.testing.assert_allclose(np.load(tmp_path / "a.npy"), ORACLES["v1_model_args"].logits, atol=1e-5)

    said = json.loads(run_ok("rotate", artifact, "--key", key_file, "--delta", "--json"))
    assert said["key_id"] == SecurityKey(SECRET).key_id
    monkeypatch.chdir(artifact)
    applied = json.loads(run_ok("apply", "server", Path(said["delta"]) / DELTA, "--json"))
    assert applied["probe"]["ok"]
    assert Path(applied["server"]) == artifact / "server-rotated"
    assert json.loads(run_ok("inspect", "server-rotated", "--json"))["salt"] == said["salt"]
    assert json.loads(run_ok("inspect", Path(said["delta"]) / DELTA, "--json"))["kind"] == "key rotation"
    assert "probe: ok" in run_ok("apply", "server", Path(said["delta"]) / DELTA, "-o", tmp_path / "again")


def test_the_commands_fail_clearly(exported: Path, key_file: Path, tmp_path: Path) -> None:
    NEW_KEY.write(tmp_path / "new.bin")
    out = ("-o", tmp_path / "out")
    assert "key id" in run_error("rotate", exported, "--key", tmp_path / "new.bin", *out)
    assert "32 hex digits" in run_error("rotate", exported, "--key", key_file, "--salt", "12", *out)
    assert "expected a folder with server/" in run_error("rotate", exported / "server", "--key", key_file, *out)
    run_ok("rotate", exported, "--key", key_file, "--delta", "-o", tmp_path / "delta")
    assert "exists" in run_error("rotate", exported, "--key", key_file, "-o", tmp_path / "delta")
    delta = tmp_path / "delta" / DELTA
    assert "exists" in run_error("apply", exported / "server", delta, "-o", tmp_path / "delta")
    assert "expected manifest.json" in run_error("apply", exported, delta, *out)
    assert "not a key rotation" in run_error("apply", exported / "server", tmp_path / "delta", *out)
    assert "not a key rotation" in run_error("apply", exported / "server", key_file, *out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["delta", "new.bin"]
