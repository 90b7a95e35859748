"""What an experiment found: one record a row, one file a seed.

A file is written anew, whole, after every row, so that work that was cut off goes on at the row where it stopped.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from paper.experiments.files import write_json

__all__ = ["RESULTS", "Record", "Row", "Task", "Way", "add_record", "read_records"]

RESULTS: Final = Path(__file__).parents[1] / "results"


class Task(StrEnum):
    """What is predicted."""

    ACTION = "action"
    """The motion, one of eight: what the service is for."""
    IDENTITY = "identity"
    """The digit, one of ten: what is private."""


class Way(StrEnum):
    """How a model comes to the clips of a method."""

    TRAINED = "trained"
    """Trained from random weights on clips of the method."""
    UNTRAINED = "untrained"
    """The model for plain clips as it is: on a task of privacy, the paper's attacker."""
    FINE_TUNED = "fine-tuned"
    """The model for plain clips, trained further on clips of the method under one key."""
    FINE_TUNED_1024 = "fine-tuned-1024"
    """As FINE_TUNED, on the first 1024 clips alone."""
    FINE_TUNED_256 = "fine-tuned-256"
    """As FINE_TUNED, on the first 256 clips alone."""
    OTHER_KEYS = "other-keys"
    """Trained as FINE_TUNED, and tested on clips under other keys."""
    FREE = "free"
    """As TRAINED, with positional encodings that are random at first and trained as well."""
    SCRAMBLED = "scrambled"
    """The model for plain clips, exported with the key (ViT Scrambling), in ONNX Runtime."""


@dataclass(frozen=True, kw_only=True, order=True)
class Row:
    """One row of one seed.

    Args:
        task: what is predicted.
        method: name in ``METHODS``, or ``plain``.
        way: how the model comes to the clips.
    """

    task: Task
    method: str
    way: Way

    def __str__(self) -> str:
        return f"{self.task}/{self.method}/{self.way}"

    @classmethod
    def parse(cls, text: str) -> Row:
        """The inverse of ``str``."""
        task, method, way = text.split("/")
        return cls(task=Task(task), method=method, way=Way(way))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a row found.

    Args:
        accuracies: share of the held-out clips predicted right, 0..1; one for each key where several were tried.
        clips: held-out clips.
        processor_seconds: of the whole row, all threads together.
        agreements: where there is a plain model beside: share of the predictions that are the same as its own on plain
            clips, 0..1, for each key.
        differences: and the largest difference of a logit from its own, for each key.
        steps: of training.
    """

    accuracies: tuple[float, ...]
    clips: int
    processor_seconds: float
    agreements: tuple[float, ...] = ()
    differences: tuple[float, ...] = ()
    steps: int = 0

    @property
    def accuracy(self) -> float:
        """Mean over the keys."""
        return sum(self.accuracies) / len(self.accuracies)


Records = dict[Row, Record]


def read_records(seed: int, folder: Path = RESULTS) -> Records:
    """The rows of a seed that are there."""
    path = _path(seed, folder)
    if not path.exists():
        return {}
    rows: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {Row.parse(name): _record(row) for name, row in rows.items()}


def _record(row: dict[str, Any]) -> Record:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    return Record(**fields)


def add_record(seed: int, row: Row, record: Record, folder: Path = RESULTS) -> None:
    """Put a row into the file of its seed."""
    records = {**read_records(seed, folder), row: record}
    rows = {str(name): _short(dataclasses.asdict(records[name])) for name in sorted(records)}
    write_json(_path(seed, folder), rows)


def _path(seed: int, folder: Path) -> Path:
    return folder / f"seed-{seed}.json"


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, and with as many digits as mean something."""
    kept = {key: value for key, value in row.items() if value not in ((), 0)}
    return kept | {"processor_seconds": round(row["processor_seconds"], 1)}
