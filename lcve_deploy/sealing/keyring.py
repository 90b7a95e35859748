"""Hold the private keys of a reader: one, or two while one replaces the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from lcve_deploy.errors import KeyFileError, SealingError
from lcve_deploy.sealing.header import Header
from lcve_deploy.sealing.keys import SealingKey

__all__ = ["MAX_KEYS", "Keyring"]

MAX_KEYS: Final = 2


@dataclass(frozen=True, kw_only=True)
class Keyring:
    """Private keys of a reader.

    Args:
        keys: one key or two, of different pairs.

    Raises:
        KeyFileError: there are none or more, or the same key twice.
    """

    keys: Sequence[SealingKey]

    def __post_init__(self) -> None:
        known = {key.public_key.fingerprint for key in self.keys}
        if not 1 <= len(self.keys) <= MAX_KEYS or len(known) != len(self.keys):
            raise KeyFileError(
                f"expected one sealing key, or two while they change over, received {len(self.keys)}, of these "
                f"{len(known)} different"
            )

    @classmethod
    def read(cls, paths: Iterable[str | os.PathLike[str]]) -> Self:
        """Read private key files; warns of files that others can read.

        Args:
            paths: files, or folders with files that end in ``.key``.

        Raises:
            KeyFileError: a file is not a private sealing key, or there are none, more than two, or one twice.
            OSError: a file cannot be read.
        """
        files = [
            file for path in map(Path, paths) for file in (sorted(path.glob("*.key")) if path.is_dir() else [path])
        ]
        return cls(keys=tuple(SealingKey.read(file) for file in files[: MAX_KEYS + 1]))

    def key_of(self, header: Header) -> SealingKey:
        """Return the key that data is sealed to.

        Raises:
            SealingError: the data is sealed to none of these keys.
        """
        for key in self.keys:
            if key.public_key.fingerprint == header.recipient:
                return key
        here = " and ".join(f"{key.public_key.fingerprint[:16]}..." for key in self.keys)
        raise SealingError(
            f"sealed to the key {header.recipient[:16]}..., and here is {here}",
            hint="seal to the public key of the server that is asked, or open with the private key of that pair",
        )
