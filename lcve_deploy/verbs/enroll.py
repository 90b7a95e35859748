"""Make keys of an artifact for cameras and clients, as the owner. Needs no checkpoint, no torch and no engine.

Each is derived from the owner's key by its name. It has a salt of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.artifact import read_key_manifest
from lcve_deploy.artifact.key_folder import require_key_name
from lcve_deploy.clips import KeyRef
from lcve_deploy.errors import ArtifactError, ExistsError, LcveError
from lcve_deploy.files.writing import new_folder, require_absent
from lcve_deploy.keys.secret import SecurityKey
from lcve_deploy.keys.signing import SigningKey
from lcve_deploy.progress import Progress, silent, step
from lcve_deploy.verbs._base import KeyBase
from lcve_deploy.verbs._keys import new_salt

__all__ = ["EnrollOptions", "Enrolled", "Enrollment", "enroll", "enroll_all"]

KEY_FILE: Final = "key.bin"
_UNSIGNED: Final = "the artifact is signed, and the new key folders are not: pass --signing-key to sign them"
_SHOWN: Final = 5


@dataclass(frozen=True, kw_only=True)
class EnrollOptions:
    """Options of an enrolment.

    Args:
        salt: 16 public bytes; random by default. For one name only.
        new_salt: renew names that were enrolled before: the same key with a new salt. ``key.bin`` is not written,
            because the camera has it.
        signing_key: signs each key folder; by default they are not signed.
    """

    salt: bytes | None = None
    new_salt: bool = False
    signing_key: SigningKey | None = None


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """A key that was made.

    Args:
        name: name that it was derived by.
        folder: folder with ``key.bin``, ``client/`` and ``server/``.
        key: key id and salt.
    """

    name: str
    folder: Path
    key: KeyRef

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"name": self.name, "folder": str(self.folder), "key_id": self.key.key_id, "salt": self.key.salt}


@dataclass(frozen=True, kw_only=True)
class Enrollment:
    """Result of ``enroll`` and ``enroll_all``.

    Args:
        enrolled: keys that were made, in the order of the names.
        skipped: number of names that had been enrolled before.
        notes: remarks for the owner.
    """

    enrolled: tuple[Enrolled, ...]
    skipped: int
    notes: tuple[str, ...]


def enroll(
    artifact: str | os.PathLike[str],
    name: str,
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: EnrollOptions = EnrollOptions(),
    progress: Progress = silent,
) -> Enrollment:
    """Make the key of one camera or client. The folder appears complete or not at all.

    It contains ``key.bin`` and ``client/`` for the camera, and ``server/``, the key folder, which the operator copies
    to ``keys/NAME`` of the model folder, as ``lcve apply`` does.

    Args:
        artifact: folder with ``server/`` and ``client/``; not changed.
        name: name of the camera or client, 1 to 64 of ``a-z 0-9 . _ -``, which begins with a letter or digit.
        output: folder to create; must not exist.
        key: key that the artifact was exported with, or another one in its ``server/keys``.
        options: salt and signing key.
        progress: receives every step.

    Raises:
        ArtifactError: the artifact or the name is invalid.
        KeyFileError: the name is invalid.
        MismatchError: the key does not belong to the artifact, or its two sides do not belong together.
        ExistsError, WriteError: the output already exists, or cannot be written.
    """
    target = require_absent(output)
    _require_names([name], key)
    with step(progress, "reading the artifact"):
        base = KeyBase.open(Path(artifact), key)
    with step(progress, "making the key"):
        enrolled = _write(base, key, name, target, options)
    return Enrollment(enrolled=(enrolled,), skipped=0, notes=_notes(base, options))


def enroll_all(
    artifact: str | os.PathLike[str],
    names: Sequence[str],
    output: str | os.PathLike[str],
    *,
    key: SecurityKey,
    options: EnrollOptions = EnrollOptions(),
    progress: Progress = silent,
) -> Enrollment:
    """Make the keys of many cameras or clients, each in a folder of ``output`` by its name. Can be run again.

    Each folder appears complete or not at all. Names whose folders are there are skipped, so a run that was stopped
    continues where it ended. The artifact is read and checked once.

    Args:
        artifact: folder with ``server/`` and ``client/``; not changed.
        names: names of the cameras or clients, as for ``enroll``, each of them once.
        output: folder for the folders; created if it does not exist.
        key: as for ``enroll``.
        options: as for ``enroll``; the salt must be random.
        progress: receives every key.

    Raises:
        ArtifactError, KeyFileError, MismatchError, WriteError: as for ``enroll``.
        ExistsError: a folder of the output is not the enrolment of its name.
        ValueError: there is no name, or a salt is given.
    """
    if not names or options.salt is not None:
        raise ValueError("expected at least one name, and no salt for all of them")
    _require_names(names, key)
    root = Path(output)
    with step(progress, "reading the artifact"):
        base = KeyBase.open(Path(artifact), key)
        missing = [name for name in names if not _is_enrolled(root / name, base, key.derive(name))]
    enrolled = []
    with _output_folder(root):
        for done, name in enumerate(missing):
            progress("enrolling", done, len(missing))
            enrolled.append(_write(base, key, name, root / name, options))
        if missing:
            progress("enrolling", len(missing), len(missing))
    skipped = len(names) - len(missing)
    return Enrollment(enrolled=tuple(enrolled), skipped=skipped, notes=_notes(base, options))


def _require_names(names: Sequence[str], key: SecurityKey) -> None:
    """Check all names before anything is written.

    Raises:
        ArtifactError, KeyFileError: one name is invalid.
        ArtifactError: several are invalid, or one is there twice.
    """
    problems = [problem for name in names if (problem := _name_problem(name, key))]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if len(problems) == 1 and not twice:
        raise problems[0]
    if problems or twice:
        shown = [str(problem) for problem in problems[:_SHOWN]] + [f"{name} is there twice" for name in twice[:_SHOWN]]
        more = len(problems) + len(twice) - len(shown)
        raise ArtifactError("; ".join(shown) + (f"; and {more} more" if more else ""), hint="correct the names")


def _name_problem(name: str, key: SecurityKey) -> LcveError | None:
    try:
        require_key_name(name)
        key.derive(name)
    except LcveError as error:
        return error
    return None


def _is_enrolled(folder: Path, base: KeyBase, key: SecurityKey) -> bool:
    """Return whether the folder of a name is there.

    Raises:
        ExistsError: there is something else in its place.
    """
    if not os.path.lexists(folder):
        return False
    try:
        found = read_key_manifest(folder / "server")
    except ArtifactError as error:
        raise ExistsError(f"{folder} exists, and is not an enrolment: {error}", hint="move it away") from None
    if (found.binding.key_id, found.model_sha256) != (key.key_id, base.manifest.digest):
        raise ExistsError(
            f"{folder} exists, and was made with another key or for another model", hint="choose another folder"
        )
    return True


@contextmanager
def _output_folder(root: Path) -> Iterator[None]:
    """Create the folder if it does not exist; remove it again if it stays empty."""
    created = not root.is_dir()
    if created:
        require_absent(root).mkdir()
    try:
        yield
    finally:
        if created and not any(root.iterdir()):
            root.rmdir()


def _write(base: KeyBase, master: SecurityKey, name: str, target: Path, options: EnrollOptions) -> Enrolled:
    key = master.derive(name)
    orders = base.content.orders_of(key, options.salt or new_salt())
    with new_folder(target, private=(KEY_FILE,)) as stage:
        if not options.new_salt:
            key.write(stage / KEY_FILE)
        manifest = base.write(stage, orders, options.signing_key)
    return Enrolled(name=name, folder=target, key=manifest.binding.key)


def _notes(base: KeyBase, options: EnrollOptions) -> tuple[str, ...]:
    return (_UNSIGNED,) if base.signed and options.signing_key is None else ()
