"""``-``: standard input instead of a file to read, and standard output instead of a file to write."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

import click

from lcve_deploy.errors import LcveError
from lcve_deploy.files.writing import new_file, require_absent
from lcve_deploy.sealing import is_sealed

__all__ = ["MAX_INPUT", "is_standard", "readable", "require_piped_input", "require_writable", "write_to"]

MAX_INPUT: Final = 4 * 2**30
"""Maximum size of standard input, bytes; a copy is held in memory."""

_CHUNK: Final = 2**20
_NPY: Final = b"\x93NUMPY"
_SAFETENSORS_JSON: Final = 8
"""Offset of the JSON header in a safetensors file."""


def is_standard(path: Path | str) -> bool:
    """Return whether a path is ``-``."""
    return str(path) == "-"


def require_piped_input(path: Path | str) -> None:
    """Check that standard input is not a terminal, if the path is ``-``.

    Raises:
        click.UsageError: it is a terminal.
    """
    if is_standard(path) and sys.stdin.isatty():
        raise click.UsageError("- reads standard input, which is a terminal here: name a file, or pipe one in")


@contextlib.contextmanager
def readable(path: Path) -> Iterator[Path]:
    """Yield the path of a file to read: the given one, or for ``-`` that of a copy of standard input.

    The copy exists until the block ends, in memory if the system supports it, otherwise in a private folder. Its
    suffix follows from its content: ``.npy``, ``.lcve``, ``.json``, or none for anything else.

    Raises:
        click.UsageError: standard input is a terminal.
        LcveError: standard input is empty, or has more than ``MAX_INPUT`` bytes.
    """
    if not is_standard(path):
        yield path
        return
    require_piped_input(path)
    with tempfile.TemporaryDirectory(prefix="lcve-") as folder, _unnamed_file(folder) as (file, location):
        head = _copy(sys.stdin.buffer, file)
        link = Path(folder) / f"standard-input{_suffix(head)}"
        link.symlink_to(location)
        yield link


@contextlib.contextmanager
def _unnamed_file(folder: str) -> Iterator[tuple[IO[bytes], str]]:
    """Open a temporary file in memory, or else in the folder; yield it and a path that opens it again."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("lcve"), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # it may be a key
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(dir=folder) as named:
            yield named.file, named.name


def _copy(source: IO[bytes], target: IO[bytes]) -> bytes:
    """Copy a whole stream, and return its first bytes."""
    head, size = b"", 0
    while chunk := source.read(_CHUNK):
        head, size = head or chunk[:16], size + len(chunk)
        if size > MAX_INPUT:
            raise LcveError(f"expected at most {MAX_INPUT} bytes on standard input, received more", hint="name a file")
        target.write(chunk)
    target.flush()
    if not size:
        raise LcveError("expected a file on standard input, received nothing")
    return head


def _suffix(head: bytes) -> str:
    if head.startswith(_NPY):
        return ".npy"
    if head[_SAFETENSORS_JSON:].startswith(b"{") or is_sealed(head):
        return ".lcve"
    return ".json" if head.lstrip()[:1] in (b"{", b"[") else ""


def require_writable(path: Path, *, as_json: bool) -> None:
    """Check, before any work, that an output can be written.

    Raises:
        click.UsageError: ``-`` is used with ``--json``, or while standard output is a terminal.
        ExistsError, WriteError: as ``require_absent``.
    """
    if not is_standard(path):
        require_absent(path)
    elif as_json:
        raise click.UsageError("- and --json both write to standard output")
    elif sys.stdout.isatty():
        raise click.UsageError("- writes binary data to standard output, which is a terminal here: redirect or pipe it")


def write_to(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a new file, or to standard output for ``-``."""
    if is_standard(path):
        stream = sys.stdout.buffer
        write(stream)
        stream.flush()
        return
    with new_file(path) as file:
        write(file)
