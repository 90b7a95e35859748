"""Through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from lcve_deploy import (
    SessionOptions,
    open_session,
)
from lcve_deploy.artifact import Profile, read_engine
from lcve_deploy.errors import SessionError
from tests.conftest import run_error, run_ok


def test_an_engine_built_ahead_of_time_is_unproven_until_it_has_run(artifact: Path, tmp_path: Path) -> None:
    server = artifact / "server"
    shown = run_ok("build", server, "--runtime", "tensorrt-rtx", "--precision", "fp16", "--batch", "1:2:4")
    assert "unproven, as it cannot run here" in shown
    record = read_engine(server, "tensorrt-rtx-fp16")
    assert record.proof is None
    assert record.profile == Profile(minimum=1, optimum=2, maximum=4)
    assert set(record.files) == {"engine.plan"}
    assert "needs an NVIDIA GPU" in run_error("verify", server, "--engine", "tensorrt-rtx-fp16")
    assert "engine tensorrt-rtx-fp16: not run here" in run_ok("verify", server)
    assert "unproven, built for" in run_ok("inspect", server)
    with pytest.raises(SessionError):
        open_session(server, SessionOptions(engine="tensorrt-rtx-fp16"))


def test_a_failed_build_leaves_nothing(artifact: Path) -> None:
    server = artifact / "server"
    error = run_error("build", server, "--runtime", "tensorrt-rtx", "--version-compatible")
    assert "version_compatible has no effect" in error
    assert not (server / "engines").exists()
    assert "expected increasing batch sizes" in run_error(
        "build", server, "--runtime", "tensorrt-rtx", "--batch", "4:2:1"
    )
