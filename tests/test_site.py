"""The documentation as a site, and the public names in its API reference."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
API = "docs/reference/api.md"
PUBLIC_MODULES = {"errors", "testing.assert_parity"}
"""What is public besides the names of the package itself."""

SOURCES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "mkdocs.yml", "docs", "paper/README.md"),
    "clients/js/README.md",
)


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=checkout, env=environment)


ALL: set[str] = set(importlib.import_module("lcve_deploy").__all__)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(REPOSITORY, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_api_page_lists_exactly_the_public_names() -> None:
    listed = re.findall(r"^::: lcve_deploy\.(\S+)$", (REPOSITORY / API).read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == {*ALL, *PUBLIC_MODULES}


def test_every_public_name_has_its_place_and_its_docstring_on_the_site(site: Path) -> None:
    page = (site / "reference/api/index.html").read_text()
    for name in (*ALL, "errors.MismatchError", "testing.assert_parity"):
        assert f'id="lcve_deploy.{name}"' in page
    assert "A secret of 32 bytes, and what is derived from it" in page


def test_readme_is_the_home_page_and_its_links_lead_to_pages(site: Path) -> None:
    home = (site / "index.html").read_text()
    assert re.search(r"<h1[^>]*>lcve-deploy", home)
    links = {link for link in re.findall(r'href="([^"#:]+)["#]', home) if not link.startswith(("assets/", "."))}
    assert "contributing/contributing/" in links
    assert [link for link in links if not (site / link).exists()] == []


@pytest.mark.parametrize(
    ("planted", "messages"),
    [
        ({API: "::: lcve_deploy.nothing"}, ["lcve_deploy.nothing could not be found"]),
        (
            {
                API: "[page](missing.md), [place](#missing)",
                "README.md": "[place](docs/reference/api.md#missing), [page](missing.md)",
            },
            [
                "'reference/api.md' contains a link 'missing.md'",
                "'reference/api.md' contains a link '#missing'",
                "'index.md' contains a link 'reference/api.md#missing'",
                "'index.md' contains a link 'missing.md'",
            ],
        ),
    ],
)
def test_a_name_or_link_that_leads_nowhere_fails_the_build(
    planted: dict[str, str], messages: list[str], tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    for name in SOURCES:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        copy(REPOSITORY / name, checkout / name)
    (checkout / "lcve_deploy").symlink_to(REPOSITORY / "lcve_deploy")
    for page, text in planted.items():
        with (checkout / page).open("a") as opened:
            opened.write(f"\n{text}\n")
    done = build(checkout, tmp_path / "site")
    assert done.returncode == 1
    assert [message for message in messages if message not in done.stderr + done.stdout] == []
