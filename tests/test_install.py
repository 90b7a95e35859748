"""The built distributions: what is in them, a slim installation of the wheel, and its types as users see them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lcve_deploy
from lcve_deploy.video import write_video
from tests.conftest import ORACLES
from tests.pages.blocks import read_page

REPOSITORY = Path(__file__).parents[1]
WITHOUT_SOURCES = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}

CLIENT = "clients/js/src/"
LINKED = "lcve_deploy/web/static/client/"
"""A link to the client in JavaScript; the distributions have its files."""

pytestmark = pytest.mark.install


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the source distribution, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, env=WITHOUT_SOURCES)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (built,) = distributions.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def slim(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the commands of an environment with the wheel and the extras cpu and video."""
    environment = tmp_path_factory.mktemp("slim")
    venv.create(environment, with_pip=False)
    _pip("--python", environment / "bin/python", "install", "--no-compile", f"{wheel}[cpu,video]")
    return environment / "bin"


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, env=WITHOUT_SOURCES)


def test_encrypt_and_run_work_with_only_the_cpu_and_video_extras(
    slim: Path, exported: Path, key_file: Path, tmp_path: Path
) -> None:
    write_video(tmp_path / "video.mp4", np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), dtype=np.uint8))

    def run(*arguments: object) -> str:
        command = [str(slim / "lcve"), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=WITHOUT_SOURCES)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("encrypt", "video.mp4", "--key", key_file, "--client", exported / "client", "-o", "clip.lcve")
    run("verify", exported / "server")
    run("run", exported, "video.mp4", "--key", key_file)
    run("run", exported / "server", "clip.lcve", "--logits-out", "logits.npy")
    assert np.load(tmp_path / "logits.npy").shape == (5,)
    assert "%" in run("read", "logits.npy", "--key", key_file, "--client", exported / "client")

    check = "import importlib.util as u; print([m for m in ('torch', 'onnx', 'onnx_ir') if u.find_spec(m)])"
    assert subprocess.check_output([slim / "python", "-c", check], text=True, env=WITHOUT_SOURCES).strip() == "[]"
    refused = subprocess.run(
        [slim / "lcve", "export", "--key", str(key_file), "--ckpt", str(ORACLES["v1_gamma"].path)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=WITHOUT_SOURCES,
    )
    assert refused.returncode == 1
    assert "lcve-deploy[export" in refused.stderr


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="compares with the files that git tracks")
def test_the_source_distribution_is_the_whole_checkout(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {member.name.partition("/")[2] for member in opened if member.isfile()}
    tracked, others = _git_files(), _git_files("--others", "--exclude-standard")
    made = {name for name in packed if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    assert tracked - packed == set()
    assert packed - made - tracked - others == set()


def _git_files(*options: str) -> set[str]:
    listed = subprocess.check_output(["git", "-C", REPOSITORY, "ls-files", "-z", *options], text=True)
    names = {name for name in listed.split("\0") if (REPOSITORY / name).is_file()}
    linked = (LINKED + name.removeprefix(CLIENT) for name in names if name.startswith(CLIENT))
    return names.union(linked)


def test_the_wheel_has_the_stub_and_the_version_of_the_package(wheel: Path, slim: Path) -> None:
    assert f"-{lcve_deploy.__version__}-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {"lcve_deploy/__init__.pyi", "lcve_deploy/py.typed", "lcve_deploy/web/static/index.html"} <= set(names)
    assert f"{LINKED}video/index.js" in names
    assert {name.partition("/")[0] for name in names} == {
        "lcve_deploy",
        f"lcve_deploy-{lcve_deploy.__version__}.dist-info",
    }
    program = (
        "import importlib.metadata as m, lcve_deploy as p; print(p.__file__, p.__version__, m.version('lcve-deploy'))"
    )
    printed = subprocess.check_output(
        [slim / "python", "-c", program], text=True, cwd=slim, env=WITHOUT_SOURCES
    ).split()
    assert Path(printed[0]).is_relative_to(slim.parent)
    assert printed[1:] == [lcve_deploy.__version__] * 2


PLAIN_CLIP_FOR_THE_OPERATOR = """
from lcve_deploy import Client, SecurityKey, open_session

client = Client.open("client", SecurityKey.read("key.bin"))
open_session("server").run(client.read_video("video.mp4").clip)
"""


@pytest.fixture(scope="module")
def snippets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the Python blocks that the light install can run, and ``refused.py``, the only one with an error."""
    folder = tmp_path_factory.mktemp("snippets")
    for name, text in _python_blocks():
        (folder / name).write_text(text)
    (folder / "refused.py").write_text(PLAIN_CLIP_FOR_THE_OPERATOR)
    return folder


_NOT_HERE = re.compile(r"^(?:import|from) (?:torch|transformers)\b", re.MULTILINE)
"""Packages that the light install does not have."""


def _python_blocks() -> Iterator[tuple[str, str]]:
    for path in (REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")):
        for block in read_page(path, path.stem).blocks:
            if block.language == "python" and not _NOT_HERE.search(block.text):
                yield re.sub(r"\W", "_", f"{block}") + ".py", block.text


def test_there_are_python_blocks_to_check(snippets: Path) -> None:
    assert {name.partition("_")[0] for name, _ in _python_blocks()} >= {"README", "edge", "parity"}
    assert len(list(snippets.iterdir())) > 4


def test_mypy_accepts_the_python_of_the_pages_against_the_wheel(slim: Path, snippets: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", f"--cache-dir={os.devnull}"]
    command += ["--hide-error-context", "--config-file=", f"--python-executable={slim / 'python'}", "."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=snippets, env=WITHOUT_SOURCES)
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    assert errors[0].startswith("refused.py:5: error: ")
    assert "[arg-type]" in errors[0]


def test_pyright_accepts_the_python_of_the_pages_against_the_wheel(slim: Path, snippets: Path) -> None:
    """basedpyright is pyright with its Node.js in the wheel; pyright itself downloads both when it runs."""
    (snippets / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", f"--pythonpath={slim / 'python'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=snippets, env=WITHOUT_SOURCES)
    found = json.loads(done.stdout)
    assert found["summary"]["filesAnalyzed"] == len(list(snippets.glob("*.py")))
    assert [(Path(one["file"]).name, one["rule"]) for one in found["generalDiagnostics"]] == [
        ("refused.py", "reportArgumentType")
    ], done.stdout
