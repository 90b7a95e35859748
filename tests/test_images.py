"""What ``make images`` checks with; it builds and runs the images themselves, and needs root."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.images import contents, pip_settings
from tests.images.build_and_run import TARGETS, main

REPOSITORY = Path(__file__).parents[1]
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "opt/lcve").mkdir(parents=True)
    return tmp_path


def test_nothing_is_found_in_an_image_that_is_as_it_should_be(root: Path) -> None:
    (root / "opt/lcve/module.py").write_text("x = 'LCVEKEY1'\n")
    assert contents.key_files(root) == contents.writable(root, user=10001) == contents.changed(root, root) == []


@pytest.mark.parametrize("content", [b"LCVEKEY1" + bytes(40), b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_planted_key_is_found(root: Path, content: bytes) -> None:
    (root / "opt/lcve/planted").write_bytes(content)
    assert contents.key_files(root) == ["opt/lcve/planted"]


def test_what_the_user_may_write_is_found_but_for_temporary_folders(root: Path) -> None:
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    (root / "opt/lcve/open").touch()
    (root / "opt/lcve/open").chmod(0o666)
    assert contents.writable(root, user=os.getuid() + 1) == ["opt/lcve/open"]
    assert "opt/lcve" in contents.writable(root, user=os.getuid())


def test_what_a_build_leaves_outside_its_folders_is_found(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("base")
    (root / "opt/lcve/new").touch()
    for folder in (root, base):
        (folder / "etc").mkdir()
        (folder / "opt").mkdir(exist_ok=True)
    assert contents.changed(root, base) == []
    (root / "etc/pip.conf").touch()
    assert contents.changed(root, base) == ["etc/pip.conf"]


def test_traces_of_an_index_are_found(root: Path) -> None:
    (root / "opt/lcve/direct_url.json").write_text('{"url": "file:///wheels/a.whl"}')
    assert contents.traces(root, ("/wheels",)) == ["opt/lcve/direct_url.json: /wheels"]
    assert contents.traces(root, ("/elsewhere",)) == []


def test_pip_settings_of_the_environment_come_before_those_of_files() -> None:
    environment, files = (
        ":env:.cert='/a.pem'\n:env:.no-input='1'",
        "global.cert='/b.pem'\nglobal.find-links='\\n/c\\n/d'",
    )
    settings = pip_settings.parsed(f"{environment}\n{files}\ninstall.user='yes'")
    assert settings.text == "[global]\ncert = /a.pem\nfind-links = /c /d\n"
    assert settings.traces == ("/c", "/d")


def test_an_index_in_a_folder_brings_the_folder_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "index/simple").mkdir(parents=True)
    settings = pip_settings.PipSettings(options={"index-url": f"file://{tmp_path}/index/simple", "cert": "/no/such"})
    assert settings.local_paths == (tmp_path / "index",)


def test_a_machine_that_cannot_run_it_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main() == 2
    assert "podman, ip, " in capsys.readouterr().err


def test_the_dockerfile_has_the_targets_and_asks_for_extras_that_exist() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    asked = re.findall(r"/src\[([a-z,]+)\]|EXTRAS=([a-z,]+)", DOCKERFILE)
    assert {extra for pair in asked for names in pair for extra in names.split(",") if extra} <= set(extras)
    assert set(TARGETS) <= set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M))


def test_no_command_of_the_dockerfile_runs_in_what_becomes_an_image() -> None:
    final = DOCKERFILE[DOCKERFILE.index(" AS role") :]
    assert not re.search(r"^RUN", final, re.M)
    assert final.count("USER 10001:10001") == len(TARGETS)
