"""Write files and folders completely or not at all, without overwriting anything."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO, Final

from lcve_deploy.errors import ExistsError, LcveError, WriteError

__all__ = ["new_file", "new_files", "new_folder", "pinned_folder", "remove_folder", "replace_file", "require_absent"]

_DESCRIPTORS: Final = Path("/proc/self/fd")


def require_absent(path: str | os.PathLike[str]) -> Path:
    """Check that nothing exists at a path, and return it as a ``Path``.

    Raises:
        ExistsError: the path exists, even as a dangling link.
        WriteError: its parent folder does not exist.
    """
    path = Path(path)
    if os.path.lexists(path):
        raise ExistsError(f"{path} exists, and nothing is overwritten", hint="choose another path, or move it away")
    if not path.parent.is_dir():
        raise WriteError(f"the folder {path.parent} does not exist", hint=f"run: mkdir -p {path.parent}")
    return path


@contextlib.contextmanager
def new_file(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file for writing; it appears at ``path`` when the block ends without an error.

    Args:
        path: file to create.
        private: use mode 0600 under any umask, for secrets; otherwise the umask applies.
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
def new_folder(
    path: str | os.PathLike[str], *, staging: Path | None = None, private: Container[str] = ()
) -> Iterator[Path]:
    """Create a folder to fill; it is renamed to ``path`` when the block ends without an error.

    Args:
        path: folder to create.
        staging: folder for partial output, on the same disk; by default the parent of the path.
        private: names of files that get mode 0600 under any umask, for secrets.
    """
    target = require_absent(path)
    with _as_write_error(target):
        stage = Path(tempfile.mkdtemp(dir=staging or target.parent, prefix=f".{target.name}.", suffix=".part"))
    try:
        with _as_write_error(target):
            yield stage
            stage.chmod(0o777 & ~_umask())
            _sync_files(stage, private)
            require_absent(target)
            stage.rename(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def new_files(*paths: Path) -> Iterator[Path]:
    """Open a folder for new files that belong together; each is moved to its path when the block ends without an error.

    The block writes them by their names into the folder, and may leave some out. The last one is moved last, so that
    it is never there without the others.

    Args:
        paths: files to create, in one folder.
    """
    targets = [require_absent(path) for path in paths]
    with _as_write_error(targets[-1]):
        stage = Path(tempfile.mkdtemp(dir=targets[-1].parent, prefix=f".{targets[-1].name}.", suffix=".part"))
    try:
        with _as_write_error(targets[-1]):
            yield stage
            _sync_files(stage, ())
            for target in targets:
                if (stage / target.name).is_file():
                    _link_new(stage / target.name, target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextlib.contextmanager
def pinned_folder(stage: Path) -> Iterator[Path]:
    """Yield a path that stays that of a folder from ``new_folder``, even if someone puts another in its place.

    Anyone who can write to the parent can do that, but cannot write into the folder itself. On Linux, the path names
    the open folder; elsewhere it is the given one.

    Raises:
        WriteError: the folder is not private to this user.
    """
    with _as_write_error(stage):
        descriptor = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
            raise WriteError(
                f"the folder {stage} was replaced while it was being written",
                hint=f"see who else can write to {stage.parent}",
            )
        pinned = _DESCRIPTORS / str(descriptor)
        yield pinned if pinned.is_dir() else stage
    finally:
        os.close(descriptor)


def remove_folder(path: Path) -> None:
    """Remove a folder atomically: readers see all of it or nothing.

    Raises:
        WriteError: it cannot be removed.
    """
    with _as_write_error(path):
        away = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            path.rename(away / path.name)
        finally:
            shutil.rmtree(away, ignore_errors=True)


def replace_file(path: Path, data: bytes, *, staging: Path | None = None) -> None:
    """Write a cache or a record, atomically replacing an older one.

    Args:
        path: file to write.
        data: its content.
        staging: folder for partial output, on the same disk; by default the parent of the file.

    Raises:
        WriteError: it cannot be written; the older file is unchanged.
    """
    with _as_write_error(path):
        descriptor, name = tempfile.mkstemp(dir=staging or path.parent, prefix=f".{path.name}.", suffix=".part")
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
    """Move a finished file to its path, unless the path has been taken in the meantime."""
    try:
        os.link(part, target)
    except FileExistsError:
        raise ExistsError(f"{target} appeared while it was being written, and nothing is overwritten") from None
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
    """Return the umask, which can only be read by setting it; other threads' files are private for that moment."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_files(folder: Path, private: Container[str]) -> None:
    """Apply the umask to every file that is not private, whichever library wrote it, and sync it to disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(0o600 if path.name in private else 0o666 & ~_umask())
            with path.open("rb") as file:
                os.fsync(file.fileno())
