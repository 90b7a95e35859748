"""Record and verify the digests of an artifact's files, and reject paths that leave its folder."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Final

from lcve_deploy.artifact.names import KEYS
from lcve_deploy.errors import ArtifactError
from lcve_deploy.files.inside import HeldFile, hold_file, open_inside, reason_not_opened

__all__ = [
    "ENGINES",
    "MANIFEST",
    "SIGNATURE",
    "FileRecord",
    "copy_files",
    "hold_checked",
    "path_problem",
    "record_files",
    "record_of",
    "sha256_of",
    "shown_name",
    "verify_files",
]

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"
ENGINES: Final = "engines"
_SIGNATURES: Final = {MANIFEST: SIGNATURE}
_CHUNK_BYTES: Final = 2**20
_MAX_PATH: Final = 1024
_MAX_NAME: Final = 255

Steps = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """Size and digest of a file.

    Args:
        bytes: size in bytes.
        sha256: SHA-256, 64 hex digits.
    """

    bytes: int
    sha256: str


def path_problem(path: str) -> str:
    """Explain why a path is not allowed inside a folder; return an empty text if it is allowed."""
    parts = PurePosixPath(path).parts
    if not parts or PurePosixPath(path).is_absolute() or PureWindowsPath(path).drive or "\\" in path:
        return f"{path!r} is not a relative path with forward slashes"
    longest = max(len(part.encode()) for part in parts)
    if not path.isprintable() or len(path.encode()) > _MAX_PATH or longest > _MAX_NAME:
        return f"{path[:80]!r} is not a path of printable text of at most {_MAX_PATH} bytes"
    return f"{path!r} leaves the folder" if ".." in parts else ""


def shown_name(name: str) -> str:
    """Return a file name for a message; quoted if it has characters that could pass for lines of a command."""
    return name if name.isprintable() else repr(name)


def record_files(root: Path) -> dict[str, FileRecord]:
    """Record every file below ``root`` by its relative path with forward slashes."""
    return {
        path.relative_to(root).as_posix(): FileRecord(bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def verify_files(
    root: Path,
    files: Mapping[str, FileRecord],
    *,
    listing: str = MANIFEST,
    signature: str = "",
    read: Container[str] | None = None,
) -> None:
    """Check size and digest of every recorded file, and that no other files are present.

    Args:
        root: folder to check.
        files: expected files, by relative path.
        listing: name of the file that the records come from; it has no record itself.
        signature: name of the signature of that file, which has no record either; by default that of a manifest.
        read: files whose digest is checked, by default all. The size of every file is checked.

    Raises:
        ArtifactError: a file is missing, differs, or leaves the folder; or a file is not listed, which a model could
            load unchecked. The message lists all of them.
    """
    problems = []
    for name, record in files.items():
        problem = path_problem(name) or _file_problem(root, name, record, digested=read is None or name in read)
        problems += [problem] if problem else []
    problems += [
        f"{shown_name(name)} is not listed"
        for name in _present(root, (listing, signature or _SIGNATURES.get(listing, "")))
        if name not in files
    ]
    _require_none(root, problems, listing)


def copy_files(root: Path, target: Path, files: Mapping[str, FileRecord], *, steps: Steps | None = None) -> None:
    """Copy files and check their digests while copying, so that each is read only once.

    Args:
        root: source folder; paths and sizes must have been checked with ``verify_files``.
        target: folder to copy to.
        files: files to copy, by relative path.
        steps: called with the number of bytes copied so far.

    Raises:
        ArtifactError: the digest of a file differs. The message lists all such files.
    """
    problems, done = [], 0
    for name, record in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with _opened(root, name) as source, (target / name).open("wb", buffering=0) as copy:
            for chunk in _chunks(source):
                digest.update(chunk)
                _write_all(copy, chunk)
                done += len(chunk)
                if steps:
                    steps(done)
        problems.append(_digest_problem(name, record, digest.hexdigest()))
    _require_none(root, [problem for problem in problems if problem])


def _chunks(file: io.FileIO) -> Iterator[memoryview]:
    """Yield the content of a file in chunks; each chunk is valid only until the next one is read."""
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    while length := file.readinto(buffer):
        yield buffer[:length]


def _write_all(file: io.FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) or 0 :]


def _present(root: Path, unlisted: tuple[str, str]) -> list[str]:
    """Return the files that must be listed: all except the listing, its signature, and what operators add."""
    files = [
        path.relative_to(root).as_posix()
        for top in sorted(root.iterdir())
        if top.name not in (ENGINES, KEYS)
        for path in ([top] if top.is_symlink() or not top.is_dir() else sorted(top.rglob("*")))
        if path.is_symlink() or not path.is_dir()
    ]
    return [name for name in files if name not in unlisted]


def _require_none(root: Path, problems: Sequence[str], listing: str = MANIFEST) -> None:
    if problems:
        raise _error(root, problems, listing)


def _error(root: Path, problems: Sequence[str], listing: str = MANIFEST) -> ArtifactError:
    return ArtifactError(
        f"the files in {root} do not match its {listing}: {'; '.join(problems)}",
        hint="copy the folder again, or create it again",
    )


def _file_problem(root: Path, name: str, record: FileRecord, *, digested: bool) -> str:
    try:
        with open_inside(root, name) as file:
            return _size_problem(name, record, os.fstat(file.fileno()).st_size) or (
                _digest_problem(name, record, hashlib.file_digest(file, "sha256").hexdigest()) if digested else ""
            )
    except OSError as error:
        return _reason(root, name, error)


def _reason(root: Path, name: str, error: OSError) -> str:
    """Why a file could not be opened or read."""
    known = isinstance(error, FileNotFoundError | NotADirectoryError) or error.errno in (errno.ELOOP, errno.ENXIO)
    return reason_not_opened(root, name) if known else f"{name} cannot be read: {error.strerror or error}"


def _opened(root: Path, name: str) -> io.FileIO:
    """Open a recorded file.

    Raises:
        ArtifactError: it is missing, or a link.
    """
    try:
        return open_inside(root, name)
    except OSError as error:
        raise _error(root, [_reason(root, name, error)]) from None


def _size_problem(name: str, record: FileRecord, size: int) -> str:
    return "" if size == record.bytes else f"{name} has {size} bytes, expected {record.bytes}"


def _digest_problem(name: str, record: FileRecord, sha256: str) -> str:
    return "" if sha256 == record.sha256 else f"{name} has a different SHA-256"


def hold_checked(root: Path, name: str, files: Mapping[str, FileRecord] | None, *, mapped: bool) -> HeldFile:
    """Read a recorded file into memory, or map it, and check the digest of what is held.

    Args:
        root: the folder.
        name: path of the file below it.
        files: records of the folder; None to take a file without a record, which this process has written.
        mapped: map the file.

    Raises:
        ArtifactError: the file has no record, is missing, is a link, or differs from its record.
    """
    if files is not None and name not in files:
        _require_none(root, [f"{name} is not listed"])
    record = None if files is None else files[name]
    with _opened(root, name) as file:
        if record and (problem := _size_problem(name, record, os.fstat(file.fileno()).st_size)):
            raise _error(root, [problem])  # before memory is used for it
        held = hold_file(file, mapped=mapped)
    held = dataclasses.replace(held, sha256=hashlib.sha256(held.data).hexdigest())
    if record:
        problem = _size_problem(name, record, len(held.data)) or _digest_problem(name, record, held.sha256)
        _require_none(root, [problem] if problem else [])
    return held


def record_of(parts: Iterable[memoryview]) -> FileRecord:
    """Compute size and digest of a file from the parts of its content, in order."""
    size, digest = 0, hashlib.sha256()
    for part in parts:
        size += len(part)
        digest.update(part)
    return FileRecord(bytes=size, sha256=digest.hexdigest())


def sha256_of(path: Path) -> str:
    """Compute the SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
