"""The stage of a batch: rows that are done, until there is a whole table. It outlives the process that fills it.

It is the hidden folder ``.OUTPUT.part`` next to the output, for its owner alone:

    settings.json    what the batch is; another batch does not continue it
    lock             held by the command that is at work
    rows/N.json      the result of row N; appears whole, and only once
    tried/N.K        attempt K at row N has begun, in this run of the command; what it failed with, if it could say
    opening/         workers that are opening the engine, see ``openings``
    clips/           encrypted clips
    session          where a local Ray keeps its files
    ray.log          what Ray has printed
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lcve_deploy.errors import ExistsError, MismatchError, WriteError
from lcve_deploy.files.reading import parse_json, read_bounded
from lcve_deploy.files.writing import new_file, remove_folder, replace_file
from lcve_deploy.verbs.batch.openings import Openings

__all__ = ["MAX_ATTEMPTS", "Stage", "open_stage"]

MAX_ATTEMPTS: Final = 3
"""Attempts at one row in one run of the command."""
_MAX_FAILURE: Final = 300
"""Characters of what an attempt failed with."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The folder; workers on all machines write into it."""

    folder: Path

    @property
    def clips(self) -> Path:
        """Folder of encrypted clips."""
        return self.folder / "clips"

    @property
    def session(self) -> Path:
        """File that names the folder of a local Ray, so that one that was killed can be cleared away."""
        return self.folder / "session"

    @property
    def log(self) -> Path:
        """File for what Ray prints."""
        return self.folder / "ray.log"

    @property
    def openings(self) -> Openings:
        """Workers that are opening the engine."""
        return Openings(folder=self.folder / "opening")

    def done(self) -> set[int]:
        """Rows that have a result."""
        return {int(path.stem) for path in self._rows.glob("[0-9]*.json")}

    def is_done(self, row: int) -> bool:
        """Whether a row has a result."""
        return self._row(row).exists()

    def read(self, row: int) -> dict[str, Any]:
        """The result of a row."""
        fields: dict[str, Any] = json.loads(self._row(row).read_bytes())
        return fields

    def write(self, row: int, fields: Mapping[str, Any]) -> None:
        """Keep the result of a row; if there is one already, that stays.

        Raises:
            WriteError: it cannot be written.
        """
        with contextlib.suppress(ExistsError), new_file(self._row(row)) as file:
            file.write(json.dumps(fields).encode())

    def begin(self, row: int) -> bool:
        """Count an attempt before it is made, as the worker may be killed during it.

        Returns:
            Whether it may be made: False after ``MAX_ATTEMPTS``.

        Raises:
            OSError: it cannot be counted.
        """
        for attempt in range(MAX_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                (self._tried / f"{row}.{attempt}").touch(exist_ok=False)
                return True
        return False

    @contextlib.contextmanager
    def remembering(self, row: int) -> Iterator[None]:
        """Keep what an attempt fails with, whatever it is; the error is raised again."""
        try:
            yield
        except BaseException as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_FAILURE]
            with contextlib.suppress(OSError):
                max(self._attempts(row)).write_text(said, encoding="utf-8", errors="backslashreplace")
            raise

    def failures(self, row: int) -> list[str]:
        """What attempts at a row have failed with; nothing of those whose worker was lost."""
        said = (path.read_text(encoding="utf-8") for path in sorted(self._attempts(row)))
        return [text for text in said if text]

    def attempts(self) -> int:
        """Attempts that have begun in this run of the command."""
        return len(os.listdir(self._tried))  # noqa: PTH208 (a count of names)

    def remove(self) -> None:
        """Remove it all.

        Raises:
            WriteError: it cannot be removed.
        """
        remove_folder(self.folder)

    def prepare(self) -> None:
        """Make the folders, and forget the attempts of an earlier run."""
        for folder in (self._tried, self.openings.folder):
            shutil.rmtree(folder, ignore_errors=True)
        for folder in (self._rows, self._tried, self.openings.folder, self.clips):
            folder.mkdir(exist_ok=True)

    def _attempts(self, row: int) -> list[Path]:
        paths = [self._tried / f"{row}.{attempt}" for attempt in range(MAX_ATTEMPTS)]
        return [path for path in paths if path.exists()]

    @property
    def _rows(self) -> Path:
        return self.folder / "rows"

    @property
    def _tried(self) -> Path:
        return self.folder / "tried"

    def _row(self, row: int) -> Path:
        return self._rows / f"{row}.json"


@contextlib.contextmanager
def open_stage(output: Path, identity: Mapping[str, Any]) -> Iterator[Stage]:
    """The stage of an output, new or as an earlier run left it; nobody else has it while the block runs.

    Args:
        output: the file or folder that is to be.
        identity: settings by name, as plain values.

    Raises:
        MismatchError: it is that of a batch with other settings.
        ExistsError: another command is at work on it.
        WriteError: it cannot be made.
    """
    stage = Stage(folder=output.parent / f".{output.name}.part")
    try:
        stage.folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise WriteError(f"cannot make {stage.folder}: {error.strerror}", hint="check space and permissions") from None
    with _locked(stage.folder):
        _check_identity(stage.folder / "settings.json", identity)
        stage.prepare()
        yield stage


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a stage; it goes with the process, however that ends."""
    import fcntl

    with (folder / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExistsError(f"another lcve batch is at work on {folder}", hint="let it finish, or stop it") from None
        yield


def _check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    if not path.exists():
        replace_file(path, json.dumps(identity, indent=2).encode())
        return
    hint = f"run the command that began it, or remove {path.parent} to start again"
    try:
        begun = parse_json(read_bounded(path, "settings of a batch", MismatchError))
    except ValueError as reason:
        raise MismatchError(f"{path} does not contain the settings of a batch: {reason}", hint=hint) from None
    before = begun if isinstance(begun, dict) else {}
    differing = [
        f"{name} {before.get(name)} there, {identity.get(name)} here"
        for name in {**before, **identity}
        if before.get(name) != identity.get(name)
    ]
    if differing:
        raise MismatchError(
            f"a batch with other settings is half done in {path.parent}: {'; '.join(differing)}", hint=hint
        )
