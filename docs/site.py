"""Adapt the repository to a site: a hook of MkDocs.

Pages outside ``docs/`` become pages of the site, README the first of them. Links between pages, which follow the
folders of the repository, are rewritten to match. A link to a file that is not on the site, such as a script, becomes
text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]

MOVED: Final[Mapping[str, str]] = {
    "README.md": "index.md",
    "docs/README.md": "documentation.md",
    "CONTRIBUTING.md": "contributing/contributing.md",
    "CHANGELOG.md": "contributing/changelog.md",
    "paper/README.md": "contributing/paper.md",
    "clients/js/README.md": "guides/javascript.md",
}
"""Pages that have another place on the site: path in the repository to path in the site."""

_IN_REPOSITORY: Final = {site: repository for repository, site in MOVED.items()}
_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the moved pages in their places."""
    for repository, site in MOVED.items():
        if repository.startswith("docs/"):
            files.remove(files.src_uris[repository.removeprefix("docs/")])
        files.append(File.generated(config, site, abs_src_path=str(ROOT / repository)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the links of a page."""
    site = page.file.src_uri
    folder = posixpath.dirname(_IN_REPOSITORY.get(site, f"docs/{site}"))

    def rewrite(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["target"]))
        if not (ROOT / target).is_file():
            return link[0]  # not a link, or one that MkDocs reports
        there = MOVED.get(target, target.removeprefix("docs/"))
        if files.get_file_from_path(there) is None:
            return link["text"]
        relative = posixpath.relpath(there, posixpath.dirname(site) or ".")
        return f"[{link['text']}]({relative}{link['anchor'] or ''})"

    return _LINK.sub(rewrite, markdown)
