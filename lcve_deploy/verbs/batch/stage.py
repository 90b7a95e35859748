"""The stage of a batch: results of finished rows, kept on disk until the output is complete.

It is the hidden folder ``.OUTPUT.part`` next to the output, with access only for its owner:

    settings.json    settings of the batch; a batch with other settings cannot resume it
    lock             locked by the command that is running
    rows/N.json      result of row N; written atomically and only once
    tried/N.K        attempt K at row N has started in this run; contains its error, if the worker could report one
    opening/         workers that are opening the engine, see ``openings``
    clips/           encrypted clips
    session          folder of a local Ray
    ray.log          output of Ray
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
"""Maximum attempts at one row in one run of the command."""
_MAX_FAILURE: Final = 300
"""Maximum characters of the error of an attempt."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Folder for unfinished results; workers on all machines write to it."""

    folder: Path

    @property
    def clips(self) -> Path:
        """Folder for encrypted clips."""
        return self.folder / "clips"

    @property
    def session(self) -> Path:
        """File that contains the folder of a local Ray, so that the next run can remove it after a crash."""
        return self.folder / "session"

    @property
    def log(self) -> Path:
        """File for Ray's output."""
        return self.folder / "ray.log"

    @property
    def openings(self) -> Openings:
        """Workers that are opening the engine."""
        return Openings(folder=self.folder / "opening")

    def done(self) -> set[int]:
        """Return the rows that have a result."""
        return {int(path.stem) for path in self._rows.glob("[0-9]*.json")}

    def is_done(self, row: int) -> bool:
        """Return whether a row has a result."""
        return self._row(row).exists()

    def read(self, row: int) -> dict[str, Any]:
        """Read the result of a row."""
        fields: dict[str, Any] = json.loads(self._row(row).read_bytes())
        return fields

    def write(self, row: int, fields: Mapping[str, Any]) -> None:
        """Write the result of a row, unless it already has one.

        Raises:
            WriteError: the result cannot be written.
        """
        with contextlib.suppress(ExistsError), new_file(self._row(row)) as file:
            file.write(json.dumps(fields).encode())

    def begin(self, row: int) -> bool:
        """Record an attempt at a row before it starts, because the worker may be killed during it.

        Returns:
            Whether the attempt is allowed: False after ``MAX_ATTEMPTS``.

        Raises:
            OSError: the attempt cannot be recorded.
        """
        for attempt in range(MAX_ATTEMPTS):
            with contextlib.suppress(FileExistsError):
                (self._tried / f"{row}.{attempt}").touch(exist_ok=False)
                return True
        return False

    @contextlib.contextmanager
    def record_failure(self, row: int) -> Iterator[None]:
        """Record any error that the block raises as the error of the latest attempt, and raise it again."""
        try:
            yield
        except BaseException as error:
            message = " ".join(f"{type(error).__name__}: {error}".split())[:_MAX_FAILURE]
            with contextlib.suppress(OSError):
                max(self._attempts(row)).write_text(message, encoding="utf-8", errors="backslashreplace")
            raise

    def failures(self, row: int) -> list[str]:
        """Return the errors of the attempts at a row; attempts whose worker was lost have none."""
        messages = (path.read_text(encoding="utf-8") for path in sorted(self._attempts(row)))
        return [message for message in messages if message]

    def attempts(self) -> int:
        """Return the number of attempts in this run of the command."""
        return len(os.listdir(self._tried))  # noqa: PTH208 (a count of names)

    def remove(self) -> None:
        """Remove the folder.

        Raises:
            WriteError: the folder cannot be removed.
        """
        remove_folder(self.folder)

    def prepare(self) -> None:
        """Create the folders, and remove the records of attempts of an earlier run."""
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
    """Create the stage of an output, or open it as an earlier run left it; hold its lock during the block.

    Args:
        output: the file or folder to write in the end.
        identity: settings by name, as plain values.

    Raises:
        MismatchError: the stage is of a batch with other settings.
        ExistsError: another command is working on it.
        WriteError: the stage cannot be created.
    """
    stage = Stage(folder=output.parent / f".{output.name}.part")
    try:
        stage.folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise WriteError(
            f"cannot create {stage.folder}: {error.strerror}", hint="check disk space and permissions"
        ) from None
    with _locked(stage.folder):
        _check_identity(stage.folder / "settings.json", identity)
        stage.prepare()
        yield stage


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a stage. The system releases it when the process ends, for whatever reason."""
    import fcntl

    with (folder / "lock").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ExistsError(f"another lcve batch is working on {folder}", hint="let it finish, or stop it") from None
        yield


def _check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    if not path.exists():
        replace_file(path, json.dumps(identity, indent=2).encode())
        return
    hint = f"run the command that started it, or remove {path.parent} to start over"
    try:
        parsed = parse_json(read_bounded(path, "settings of a batch", MismatchError))
    except ValueError as reason:
        raise MismatchError(f"{path} does not contain the settings of a batch: {reason}", hint=hint) from None
    before = parsed if isinstance(parsed, dict) else {}
    differing = [
        f"{name} {before.get(name)} there, {identity.get(name)} here"
        for name in {**before, **identity}
        if before.get(name) != identity.get(name)
    ]
    if differing:
        raise MismatchError(
            f"{path.parent} has an unfinished batch with other settings: {'; '.join(differing)}", hint=hint
        )
