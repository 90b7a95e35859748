"""Find the versions of a model on disk, and parse the models of a command line."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lcve_deploy.artifact.digests import MANIFEST
from lcve_deploy.artifact.manifest import manifest_digest
from lcve_deploy.errors import ArtifactError, RequestError
from lcve_deploy.serving.settings import ModelSource

__all__ = ["FolderVersion", "find_versions", "parse_source", "require_distinct", "require_model_name"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_VERSION: Final = re.compile(r"[1-9][0-9]{0,8}")
_SERVER_FOLDER: Final = "server"


@dataclass(frozen=True, kw_only=True)
class FolderVersion:
    """One version of a model on disk.

    Args:
        number: version number.
        folder: server folder.
        digest: digest of the manifest when the folder was checked; if it could not be read, the reason.
    """

    number: int
    folder: Path
    digest: str


def find_versions(folder: Path) -> dict[int, FolderVersion]:
    """Return the versions of a model by number.

    A server folder is version 1. Otherwise each server folder in ``folder`` whose name is a number is a version.
    Folders without a manifest, and folders that are removed while they are checked, are ignored. A manifest that
    cannot be read is a version, which then fails to load.

    Raises:
        OSError: ``folder`` itself cannot be read.
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
    digests = {number: _digest(version_folder) for number, version_folder in folders.items()}
    return {
        number: FolderVersion(number=number, folder=folders[number], digest=digest)
        for number, digest in digests.items()
        if digest is not None
    }


def _digest(folder: Path) -> str | None:
    """Return the digest of a manifest, or why it cannot be read; None if there is none."""
    try:
        if not (folder / MANIFEST).is_file():  # reading a pipe would block
            return None
        return manifest_digest(folder)
    except FileNotFoundError:
        return None
    except (OSError, ArtifactError) as error:
        return f"unreadable: {error}"


def parse_source(text: str) -> ModelSource:
    """Parse ``NAME=DIR`` or ``DIR``.

    Without NAME, the name is that of the folder, or of its parent if the folder is called ``server``.

    Raises:
        RequestError: the name is invalid as a part of an address.
    """
    name, equals, directory = text.partition("=")
    folder = Path(directory if equals else text)
    if not equals:
        shown = folder.resolve()
        name = shown.parent.name if shown.name == _SERVER_FOLDER else shown.name
    return ModelSource(name=require_model_name(name, folder), folder=folder)


def require_model_name(name: str, folder: Path) -> str:
    """Return the name if it is valid as a part of an address and as a folder name.

    Args:
        name: model name.
        folder: folder of the model, for the hint of the error.

    Raises:
        RequestError: the name is invalid.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"expected a model's name of letters, digits, dots, dashes and underscores, received {name!r}",
            hint=f"choose a name: NAME={folder}",
        )
    return name


def require_distinct(sources: Iterable[ModelSource]) -> tuple[ModelSource, ...]:
    """Return the models if their names are distinct.

    Raises:
        RequestError: two models have the same name.
    """
    sources, names = tuple(sources), set[str]()
    for source in sources:
        if source.name in names:
            raise RequestError(
                f"two models are called {source.name}", hint=f"choose another name: NAME={source.folder}"
            )
        names.add(source.name)
    return sources
