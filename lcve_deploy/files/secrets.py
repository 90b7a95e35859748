"""Read a file that holds a secret."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable
from typing import TypeVar

from lcve_deploy.errors import KeyFileError
from lcve_deploy.files.reading import require_file

__all__ = ["KeyFileWarning", "read_secret"]

_Key = TypeVar("_Key")


class KeyFileWarning(UserWarning):
    """A key file that people other than its owner can read."""


def read_secret(path: str | os.PathLike[str], what: str, *, limit: int, parse: Callable[[bytes], _Key]) -> _Key:
    """Read a key from its file; warn if group or others can read it. To be called by what reads a key for its caller.

    Args:
        path: of the file.
        what: it should be, such as "a key file".
        limit: largest number of bytes to read.
        parse: makes the key from the bytes.

    Raises:
        KeyFileError: no regular file, or ``parse`` refused its content; the message names the file.
        FileNotFoundError: there is no such file.
    """
    require_file(path, what, KeyFileError)
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            key = parse(file.read(limit))  # no local holds the bytes: some tracebacks show locals
    except KeyFileError as error:
        raise KeyFileError(f"{error}: {path}", hint=error.hint) from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        warnings.warn(
            f"{path} can be read by others (mode {stat.S_IMODE(mode):04o}); do: chmod 600 {path}",
            KeyFileWarning,
            stacklevel=3,
        )
    return key
