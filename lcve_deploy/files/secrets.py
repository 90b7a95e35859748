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
    """Read a key from its file, and warn if group or others can read the file.

    The warning points to the caller of the function that calls this one.

    Args:
        path: path of the file.
        what: description of the expected file for messages, such as "a key file".
        limit: maximum number of bytes to read.
        parse: converts the bytes to a key.

    Raises:
        KeyFileError: the path is not a regular file, or ``parse`` rejects its content; the message has the path.
        FileNotFoundError: the file does not exist.
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
