"""The versions of a model on disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.manifest import manifest_digest
from lcve_deploy.errors import RequestError
from lcve_deploy.serving.settings import ModelSource

__all__ = ["FolderVersion", "find_versions", "parse_source", "require_distinct", "require_model_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_SERVER_FOLDER: Final = "server"


@dataclass(frozen=True, kw_only=True)
class FolderVersion:
    """A server folder, and the digest of the manifest that was seen in it."""

    number: int
    folder: Path
    digest: str


def find_versions(folder: Path) -> dict[int, FolderVersion]:
    """The versions of a model: 1 for a server folder, otherwise the folders in it that are named by numbers.

    A folder without a manifest, or one that goes away while it is looked at, is passed over.
    """
    if (folder / MANIFEST).is_file():
        folders = {1: folder}
    elif folder.is_dir():
        folders = {
            int(version_folder.name): version_folder
            for version_folder in folder.iterdir()
            if _VERSION.fullmatch(version_folder.name)
        }
    else:
        folders = {}
    found = {}
    for number, version_folder in folders.items():
        if not (version_folder / MANIFEST).is_file():  # a pipe would keep us waiting
            continue
        try:
            found[number] = FolderVersion(number=number, folder=version_folder, digest=manifest_digest(version_folder))
        except OSError:
            continue
    return found


def parse_source(text: str) -> ModelSource:
    """Read ``NAME=DIR`` or ``DIR``; the name is then the folder's, or its parent's where that is called ``server``.

    Raises:
        RequestError: a name that cannot stand in an address.
    """
    name, equals, version_folder = text.partition("=")
    folder = Path(version_folder if equals else text)
    if not equals:
        shown = folder.resolve()
        name = shown.parent.name if shown.name == _SERVER_FOLDER else shown.name
    return ModelSource(name=require_model_name(name, folder), folder=folder)


def require_model_name(name: str, folder: Path) -> str:
    """The name, once it is certain that it can stand in an address and be a folder; ``folder`` is for the hint.

    Raises:
        RequestError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"a model's name has letters, digits, dots, dashes and underscores, received {name!r}",
            hint=f"name it: NAME={folder}",
        )
    return name


def require_distinct(sources: Iterable[ModelSource]) -> tuple[ModelSource, ...]:
    """The models, once it is certain that no two have one name.

    Raises:
        RequestError: two have.
    """
    sources, names = tuple(sources), set[str]()
    for source in sources:
        if source.name in names:
            raise RequestError(f"two models are called {source.name}", hint=f"name one: NAME={source.folder}")
        names.add(source.name)
    return sources
