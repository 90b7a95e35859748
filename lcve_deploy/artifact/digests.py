"""Digests of an artifact's files, and paths that stay inside its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from lcve_deploy.errors import ArtifactError

__all__ = ["ENGINES", "MANIFEST", "FileRecord", "path_problem", "record_files", "sha256_of", "verify_files"]

MANIFEST: Final = "manifest.json"
ENGINES: Final = "engines"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size (bytes) and SHA-256 (64 hex digits) of a file."""

    bytes: int
    sha256: str


def path_problem(path: str) -> str:
    """What is wrong with a path that must stay inside a folder; empty where nothing is."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or "\\" in path:
        return f"{path!r} is not a relative path with forward slashes"
    return f"{path!r} leaves the folder" if ".." in parts else ""


def record_files(root: Path) -> dict[str, FileRecord]:
    """Digest every file of a folder that is being staged, by its path with forward slashes."""
    return {
        path.relative_to(root).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def verify_files(root: Path, files: Mapping[str, FileRecord], *, listing: str = MANIFEST) -> None:
    """Check size and digest of every recorded file.

    Args:
        root: the folder.
        files: its records.
        listing: name of the file that has the records, and no record of its own.

    Raises:
        ArtifactError: names every file that is missing, leaves the folder, differs, or is not listed: a
            model could load it unchecked.
    """
    problems = [problem for name, record in files.items() if (problem := _file_problem(root, name, record))]
    problems += [f"{name} is not listed" for name in _present(root, listing) if name not in files]
    if problems:
        raise ArtifactError(
            f"the files of {root} are not those of its {listing}: {'; '.join(problems)}",
            hint="copy it again, or make it again",
        )


def _present(root: Path, listing: str) -> list[str]:
    """Files that must be listed: all but the listing and the engines that operators build."""
    paths = (path.relative_to(root) for path in sorted(root.rglob("*")) if not path.is_dir())
    return [path.as_posix() for path in paths if path.parts[0] not in (listing, ENGINES)]


def _file_problem(root: Path, name: str, record: FileRecord) -> str:
    path = root / name
    if problem := path_problem(name):
        return problem
    if not path.resolve().is_relative_to(root.resolve()):
        return f"{name} is a link that leaves the folder"
    if not path.is_file():
        return f"{name} is missing"
    if path.stat().st_size != record.bytes:
        return f"{name} has {path.stat().st_size} bytes, expected {record.bytes}"
    return "" if sha256_of(path) == record.sha256 else f"{name} has another SHA-256"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
