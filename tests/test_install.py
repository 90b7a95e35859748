"""The slim installation: an edge box and an operator, with no torch."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

from lcve_deploy.video import write_video

from .conftest import ORACLES

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.install
def test_encrypt_and_run_work_with_only_the_cpu_and_video_extras(
    exported: Path, key_file: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env")
    python, lcve = tmp_path / "env/bin/python", tmp_path / "env/bin/lcve"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-compile", f"{REPOSITORY}[cpu,video]"], check=True)
    write_video(tmp_path / "video.mp4", np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8))

    def run(*arguments: object) -> str:
        done = subprocess.run([lcve, *map(str, arguments)], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("encrypt", "video.mp4", "--key", key_file, "--client", exported / "client", "-o", "clip.lcve")
    run("verify", exported / "server")
    run("run", exported, "video.mp4", "--key", key_file)
    run("run", exported / "server", "clip.lcve", "--logits-out", "logits.npy")
    assert np.load(tmp_path / "logits.npy").shape == (5,)
    assert "%" in run("read", "logits.npy", "--key", key_file, "--client", exported / "client")

    check = "import importlib.util as u; print([m for m in ('torch', 'onnx', 'onnx_ir') if u.find_spec(m)])"
    assert subprocess.check_output([python, "-c", check], text=True).strip() == "[]"
    refused = subprocess.run(
        [lcve, "export", "--key", str(key_file), "--ckpt", str(ORACLES["v1_gamma"].path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert refused.returncode == 1
    assert "lcve-deploy[export" in refused.stderr
