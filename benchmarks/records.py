"""``benchmarks/results/benchmarks.json``: what every process measured, by machine, part, case and process."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.common.summary import Figures, summary

_SAME = ("versions", "code", "rounds")
"""What processes have in common that are joined."""

_NUMBERS = re.compile(r"\[\s+([^\[\]{}\"]*?)\s+\]")


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A part as one machine measured it.

    Args:
        machine: its name.
        cases: joined figures by case.
        processes: stamps of all processes.
    """

    machine: str
    cases: dict[str, Figures]
    processes: tuple[dict[str, Any], ...]

    @property
    def date(self) -> str:
        """Return the day of the last process."""
        return max(str(process["date"]) for process in self.processes)


class Records:
    """The file, written again after every process.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def has(self, machine: str, part: str, case: str, number: int, stamp: dict[str, Any]) -> bool:
        """Return whether a process is there, of the same code, libraries and rounds."""
        found = self._processes(machine, part, case).get(str(number))
        return found is not None and _alike(found, stamp)

    def add(self, machine: str, part: str, case: str, number: int, process: dict[str, Any]) -> None:
        """Keep a process; those of other code, other libraries or another number of rounds go."""
        alike = {n: old for n, old in self._processes(machine, part, case).items() if _alike(old, process)}
        joined = {**alike, str(number): process}
        cases = self._content.setdefault(machine, {}).setdefault(part, {})
        cases[case] = dict(sorted(joined.items(), key=lambda item: int(item[0])))
        write(self._path, self._content)

    def measured(self, part: str) -> list[Measured]:
        """Return the part as every machine measured it, the newest first."""
        found = [_measured(machine, parts[part]) for machine, parts in self._content.items() if part in parts]
        return sorted(found, key=lambda one: one.date, reverse=True)

    def _processes(self, machine: str, part: str, case: str) -> dict[str, Any]:
        found: dict[str, Any] = self._content.get(machine, {}).get(part, {}).get(case, {})
        return found


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the file whole; lists of numbers take one line."""
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(content, indent=1))
    part = path.with_name(f"{path.name}.part")
    part.write_text(text + "\n")
    part.replace(path)


def _alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in _SAME)


def _measured(machine: str, cases: dict[str, Any]) -> Measured:
    return Measured(
        machine=machine,
        cases={case: _joined(list(processes.values())) for case, processes in cases.items()},
        processes=tuple(
            {name: value for name, value in process.items() if name != "figures"}
            for processes in cases.values()
            for process in processes.values()
        ),
    )


def _joined(processes: list[dict[str, Any]]) -> Figures:
    """Join the processes; of the earliest figures only the summary of a single process was kept."""
    figures = [process["figures"] for process in processes]
    kept = next((one for one in figures if "rows" in one), None)
    return kept if kept is not None else summary(figures)
