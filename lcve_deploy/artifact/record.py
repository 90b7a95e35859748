"""Reading JSON from outside: every problem is found at once, each with its place."""

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
    """A JSON object that is being checked.

    Wrong fields are noted in ``problems`` (shared with the records inside), not raised; what is
    returned in their place only keeps the reading going until ``finish`` raises.
    """

    def __init__(self, value: Any, place: str, problems: list[str]) -> None:
        self.place, self.problems = place, problems
        self._fields: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.note("", "an object", value)

    def note(self, name: str, expected: str, received: Any) -> None:
        """Add a problem."""
        place = ".".join(part for part in (self.place, name) if part) or "the top level"
        self.problems.append(f"{place}: expected {expected}, received {json.dumps(received)[:80]}")

    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self._fields)

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
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
        """A string that matches ``pattern`` in full."""
        value = self._get(name, (str,), "text", None)
        if value is not None and not re.fullmatch(pattern, value, re.ASCII):
            self.note(name, f"text like {pattern}", value)
        return value or ""

    def integer(self, name: str, minimum: int = 1) -> int:
        """A whole number of at least ``minimum``."""
        value = self._get(name, (int,), "a whole number", minimum)
        if value < minimum:
            self.note(name, f"at least {minimum}", value)
        return value

    def number(self, name: str) -> float:
        """A finite number of at least zero."""
        value = self._get(name, (int, float), "a number", 0.0)
        if not 0 <= value <= sys.float_info.max:
            self.note(name, "a finite number of at least 0", value)
            return 0.0
        return float(value)

    def items(self, name: str) -> list[Any]:
        """A list."""
        return self._get(name, (list,), "a list", [])

    def record(self, name: str) -> Record:
        """An object within."""
        return Record(
            self._get(name, (dict,), "an object", {}), ".".join(filter(None, (self.place, name))), self.problems
        )

    def made(self, name: str, make: Callable[[str], _Value]) -> _Value | None:
        """A text that ``make`` turns into a value; its ValueError becomes a problem."""
        value = self._get(name, (str,), "text", None)
        try:
            return None if value is None else make(value)
        except ValueError as error:
            self.problems.append(f"{'.'.join(filter(None, (self.place, name)))}: {error}")
            return None

    def finish(self, path: Path, *, hint: str = "export the artifact again") -> None:
        """Raise all problems.

        Raises:
            ArtifactError: there are any.
        """
        if self.problems:
            shown = [problem[:_SHOWN_CHARACTERS] for problem in self.problems[:_SHOWN_PROBLEMS]]
            more = len(self.problems) - len(shown)
            shown += [f"and {more} more"] if more else []
            raise ArtifactError(f"{path} is invalid: {'; '.join(shown)}", hint=hint)


def read_json(path: Path) -> Record:
    """The top object of a JSON file.

    Raises:
        ArtifactError: no such file, not a regular one, one that is too large, or not JSON.
    """
    return parse_json(read_data(path), path)


def read_data(path: Path) -> bytes:
    """The bytes of a JSON file, which are read once.

    Raises:
        ArtifactError: no such file, or one that is too large.
    """
    try:
        return reading.read_bounded(path, "a JSON file", ArtifactError)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"expected {path.name} in {path.parent}, found none", hint=_where(path)) from None


def parse_json(data: bytes, path: Path) -> Record:
    """The top object of JSON that came from ``path``.

    Raises:
        ArtifactError: not JSON, or beyond its limits.
    """
    try:
        return Record(reading.parse_json(data), "", [])
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}") from None


def _where(path: Path) -> str:
    """Where a missing file may be meant to be: people pass the artifact for one of its sides."""
    inside = next((side for side in ("server", "client") if (path.parent / side / path.name).is_file()), None)
    return f"pass {path.parent / inside}" if inside else "pass a folder made by: lcve export"
