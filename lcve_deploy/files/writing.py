"""Output files and folders that appear whole or not at all, and never over something else."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lcve_deploy.errors import ExistsError, LcveError, WriteError

__all__ = ["new_file", "new_folder", "remove_folder", "replace_file", "require_absent"]


def require_absent(path: str | os.PathLike[str]) -> Path:
    """The path, once it is certain that nothing is there.

    Raises:
        ExistsError: something is there, a dangling link too.
        WriteError: the folder that would hold it is not there.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise ExistsError(f"{path} exists, and nothing is overwritten", hint="choose another path, or move it away")
    if not path.parent.is_dir():
        raise WriteError(f"the folder {path.parent} does not exist", hint=f"do: mkdir -p {path.parent}")
    return path


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[IO[bytes]]:
    """A file to write; it appears under ``path`` once the block ends without an error.

    Args:
        path: to write.
        private: mode 0600 under any umask, for what is secret; otherwise the umask decides.
    """
    target = require_absent(path)
    with _as_write_error(target):
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    part = Path(name)
    try:
        with _as_write_error(target):
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o600 if private else 0o666 & ~_umask())
            _link_new(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | os.PathLike[str], *, stage_in: Path | None = None) -> Iterator[Path]:
    """A folder to fill; it is renamed to ``path`` once the block ends without an error.

    Args:
        path: to make.
        stage_in: folder for what is half-written, on the same disk; by default that of the path.
    """
    target = require_absent(path)
    with _as_write_error(target):
        stage = Path(tempfile.mkdtemp(dir=stage_in or target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        with _as_write_error(target):
            yield stage
            stage.chmod(0o777 & ~_umask())
            _settle(stage)
            require_absent(target)
            stage.rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder; others see all of it or nothing.

    Raises:
        WriteError: it cannot be removed.
    """
    with _as_write_error(path):
        away = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            path.rename(away / path.name)
        finally:
            shutil.rmtree(away, ignore_errors=True)


def replace_file(path: Path, data: bytes, *, stage_in: Path | None = None) -> None:
    """Write a cache or a record: files that may take the place of an older one, and do so in one step.

    Args:
        path: to write.
        data: its content.
        stage_in: folder for what is half-written, on the same disk; by default that of the file.

    Raises:
        WriteError: it cannot be written; the older one is still there.
    """
    with _as_write_error(path):
        descriptor, name = tempfile.mkstemp(dir=stage_in or path.parent, prefix=f".{path.name}.", suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.chmod(0o666 & ~_umask())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _link_new(part: Path, target: Path) -> None:
    """Give a finished file its name, unless the name has been taken by now."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise ExistsError(f"{target} appeared in the meantime, and nothing is overwritten") from None
    except OSError:  # a file system without hard links
        require_absent(target)
        part.rename(target)


@contextlib.contextmanager
def _as_write_error(target: Path) -> Iterator[None]:
    try:
        yield
    except LcveError:
        raise
    except OSError as error:
        raise WriteError(
            f"cannot write {target}: {error.strerror or error}", hint="check free space and permissions"
        ) from error


def _umask() -> int:
    """The umask can only be read by setting it; what other threads make at that time is private, never open to all."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _settle(folder: Path) -> None:
    """Give every file the usual mode, whichever library wrote it, and bring it to the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o666 & ~_umask())
            with path.open("rb") as file:
                os.fsync(file.fileno())
