"""The engine secret: with it, a machine recognises the engines that it has built and proven itself.

It authenticates records of engines, and nothing else. It is no LCVE key: it is random, the operator holds it, and it
opens no clip. It is kept outside of ``server/``, so that no one who writes into that folder can make a valid record.

Source: XDG Base Directory Specification 0.8; RFC 2104 for HMAC.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from lcve_deploy.errors import ExistsError, SessionError
from lcve_deploy.files.reading import open_file
from lcve_deploy.files.writing import new_file

__all__ = ["SECRET_BYTES", "SECRET_VARIABLE", "EngineSecret", "engine_secret_path", "make_secret", "read_secret"]

SECRET_BYTES: Final = 32
SECRET_VARIABLE: Final = "LCVE_ENGINE_SECRET"
"""Environment variable with the path of the file."""

_HEAD: Final = "lcve-engine-secret-1 "
_CONTENT: Final = re.compile(rf"{_HEAD}([0-9a-f]{{{2 * SECRET_BYTES}}})\n".encode())
_PLACE: Final = Path("lcve-deploy") / "engine-secret"
_WHERE: Final = f"name a file that this machine keeps, outside of server/: {SECRET_VARIABLE}=FILE"


@dataclass(frozen=True, kw_only=True, repr=False)
class EngineSecret:
    """The secret, and the file that it was read from.

    Args:
        raw: 32 bytes.
        path: of the file, for messages.
    """

    raw: bytes
    path: Path

    def mac(self, data: bytes) -> str:
        """Return the HMAC-SHA256 of ``data``, 64 hex digits."""
        return hmac.new(self.raw, data, hashlib.sha256).hexdigest()

    def holds(self, data: bytes, mac: str) -> bool:
        """Check a MAC in constant time."""
        return hmac.compare_digest(self.mac(data).encode(), mac.encode())

    def __repr__(self) -> str:
        return f"EngineSecret(path={str(self.path)!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an engine secret is not pickled; pass the path of its file")


def engine_secret_path(path: Path | None = None) -> Path:
    """Return ``path``, or what ``LCVE_ENGINE_SECRET`` says, or the default in the user's state folder.

    Raises:
        SessionError: neither is given, and there is no home folder.
    """
    named = path or os.environ.get(SECRET_VARIABLE)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME", "")
    if Path(state).is_absolute():  # the specification says to ignore a relative path
        return Path(state) / _PLACE
    try:
        return Path.home() / ".local/state" / _PLACE
    except RuntimeError:
        raise SessionError("there is no home folder for the engine secret", hint=_WHERE) from None


def read_secret(path: Path | None = None) -> EngineSecret | None:
    """Read the secret; None if this machine has none yet.

    Args:
        path: of its file; by default as of ``engine_secret_path``.

    Raises:
        SessionError: the file is no engine secret, others can read or change it, or it cannot be read.
    """
    place = engine_secret_path(path)
    try:
        with open_file(place, "an engine secret", SessionError) as file:
            _require_private(place, os.fstat(file.fileno()))
            content = file.read(len(_HEAD) + 2 * SECRET_BYTES + 2)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionError(f"cannot read the engine secret {place}: {error.strerror}", hint=_WHERE) from None
    found = _CONTENT.fullmatch(content)
    if found is None:
        raise SessionError(
            f"expected an engine secret, received something else: {place}",
            hint=f"move the file away, and lcve build makes a new one; or {_WHERE}",
        )
    return EngineSecret(raw=bytes.fromhex(found[1].decode()), path=place)


def make_secret(server: Path, path: Path | None = None) -> EngineSecret:
    """Read the secret, or make one if this machine has none; of two that do so at once, both get the same.

    Args:
        server: a server folder; the secret must be outside of it.
        path: of its file; by default as of ``engine_secret_path``.

    Raises:
        SessionError: as of ``read_secret``, a file inside of the server folder, or one that cannot be written.
    """
    place = engine_secret_path(path)
    if place.resolve().is_relative_to(server.resolve()):
        raise SessionError(f"the engine secret {place} is in the server folder {server}", hint=_WHERE)
    if known := read_secret(place):
        return known
    _make_parents(place, named=bool(path or os.environ.get(SECRET_VARIABLE)))
    try:
        with new_file(place, private=True) as file:
            file.write(f"{_HEAD}{secrets.token_hex(SECRET_BYTES)}\n".encode())
    except ExistsError:  # another process was faster
        pass
    except OSError as error:
        raise SessionError(f"cannot keep an engine secret on this machine: {error}", hint=_WHERE) from None
    made = read_secret(place)
    if made is None:
        raise SessionError(f"the engine secret {place} went away while it was made", hint="run the command again")
    return made


def _make_parents(place: Path, *, named: bool) -> None:
    """Make the default folder, with mode 0700; one that the operator named must be there."""
    if named:
        return
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SessionError(
            f"cannot make the folder {place.parent} for the engine secret: {error.strerror}", hint=_WHERE
        ) from None


def _require_private(place: Path, status: os.stat_result) -> None:
    """Refuse a file that others can use. A group may read one of root, such as a mounted Secret of Kubernetes."""
    if os.name != "posix":
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid not in (0, os.geteuid()):
        raise SessionError(
            f"the engine secret {place} belongs to the user {status.st_uid}, not to this one or root", hint=_WHERE
        )
    if mode & (0o077 if status.st_uid == os.geteuid() else 0o037):
        raise SessionError(
            f"others can use the engine secret {place} (mode {mode:04o})",
            hint=f"chmod 600 {place}; if others may have read it, remove it and build the engines again",
        )
