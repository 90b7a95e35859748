"""Read untrusted JSON and report all problems at once, each with the path of its field."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from lcve_deploy.errors import ArtifactError
from lcve_deploy.files import reading

__all__ = ["Record", "parse_json", "read_data", "read_json"]

_Value = TypeVar("_Value")

_SHOWN_PROBLEMS: Final = 20
_SHOWN_CHARACTERS: Final = 300


class Record:
    """A JSON object whose fields are checked as they are read.

    An invalid field does not raise. It is added to ``problems``, which nested records share, and a placeholder
    is returned so that the remaining fields are checked too. Call ``finish`` before using any value.

    Args:
        value: parsed JSON; anything but an object is a problem.
        place: path of the object in its file, such as ``input`` or ``assumptions[0]``; empty at the top level.
        problems: list to which problems are added.
    """

    def __init__(self, value: Any, place: str, problems: list[str]) -> None:
        self.place, self.problems = place, problems
        self._fields: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.note("", "an object", value)

    def note(self, name: str, expected: str, received: Any) -> None:
        """Add a problem with the field ``name``; an empty name stands for the record itself."""
        place = ".".join(part for part in (self.place, name) if part) or "the top level"
        self.problems.append(f"{place}: expected {expected}, received {json.dumps(received)[:80]}")

    def names(self) -> tuple[str, ...]:
        """Return the names of the fields."""
        return tuple(self._fields)

    def has(self, name: str) -> bool:
        """Tell whether a field is present and not null."""
        return self._fields.get(name) is not None

    def _get(self, name: str, kinds: tuple[type, ...], expected: str, default: _Value) -> _Value:
        if name not in self._fields:
            self.problems.append(f"{'.'.join(filter(None, (self.place, name)))}: missing")
            return default
        value = self._fields[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            self.note(name, expected, value)
            return default
        return cast(_Value, value)

    def text(self, name: str, pattern: str = r"(?s).*") -> str:
        """Read a string that matches the whole of ``pattern``."""
        value = self._get(name, (str,), "text", None)
        if value is not None and not re.fullmatch(pattern, value, re.ASCII):
            self.note(name, f"text like {pattern}", value)
        return value or ""

    def integer(self, name: str, minimum: int = 1) -> int:
        """Read an integer of at least ``minimum``."""
        value = self._get(name, (int,), "a whole number", minimum)
        if value < minimum:
            self.note(name, f"at least {minimum}", value)
        return value

    def number(self, name: str) -> float:
        """Read a finite number of at least 0."""
        value = self._get(name, (int, float), "a number", 0.0)
        if not 0 <= value <= sys.float_info.max:
            self.note(name, "a finite number of at least 0", value)
            return 0.0
        return float(value)

    def items(self, name: str) -> list[Any]:
        """Read a list."""
        return self._get(name, (list,), "a list", [])

    def record(self, name: str) -> Record:
        """Read a nested object."""
        return Record(
            self._get(name, (dict,), "an object", {}), ".".join(filter(None, (self.place, name))), self.problems
        )

    def parsed(self, name: str, parse: Callable[[str], _Value]) -> _Value | None:
        """Read a string and convert it with ``parse``; return None if it is invalid.

        A ValueError of ``parse`` becomes a problem.
        """
        value = self._get(name, (str,), "text", None)
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            self.problems.append(f"{'.'.join(filter(None, (self.place, name)))}: {error}")
            return None

    def finish(self, path: Path, *, hint: str = "export the artifact again") -> None:
        """Raise one error with all problems, if there are any.

        Args:
            path: file that the record was read from, for the message.
            hint: what to do about it.

        Raises:
            ArtifactError: at least one field is invalid or missing.
        """
        if self.problems:
            shown = [problem[:_SHOWN_CHARACTERS] for problem in self.problems[:_SHOWN_PROBLEMS]]
            more = len(self.problems) - len(shown)
            shown += [f"and {more} more"] if more else []
            raise ArtifactError(f"{path} is invalid: {'; '.join(shown)}", hint=hint)


def read_json(path: Path) -> Record:
    """Read a JSON file and return its top-level object.

    Raises:
        ArtifactError: the file is missing, not a regular file, too large, or not JSON.
    """
    return parse_json(read_data(path), path)


def read_data(path: Path) -> bytes:
    """Read the bytes of a JSON file.

    Raises:
        ArtifactError: the file is missing, not a regular file, or too large.
    """
    try:
        return reading.read_bounded(path, "a JSON file", ArtifactError)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"expected {path.name} in {path.parent}, found none", hint=_missing_hint(path)) from None


def parse_json(data: bytes, path: Path) -> Record:
    """Parse JSON and return its top-level object.

    Args:
        data: content of the file.
        path: file that it was read from, for messages.

    Raises:
        ArtifactError: the data is not JSON, or exceeds the limits of ``files.reading``.
    """
    try:
        return Record(reading.parse_json(data), "", [])
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from None


def _missing_hint(path: Path) -> str:
    """Return a hint for a missing file: people often pass the artifact instead of its server or client folder."""
    inside = next((side for side in ("server", "client") if (path.parent / side / path.name).is_file()), None)
    return f"pass {path.parent / inside}" if inside else "pass a folder that lcve export has written"
