"""What all seeds together found in a row, and how tables show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from paper.experiments.records import Record, Records, Row, Task, Way
from paper.findings.chance import chance, limit, lucky

__all__ = ["NOT_RUN", "SEEDS", "Findings", "Found", "agreement", "cell", "percent", "spread", "spread_of"]

SEEDS: Final = (0, 1, 2)
NOT_RUN: Final = "not run"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A row, all seeds together.

    Args:
        task: of the row.
        records: one a seed.
    """

    task: Task
    records: tuple[Record, ...]

    @property
    def values(self) -> tuple[float, ...]:
        """Accuracies of all keys of all seeds, 0..1."""
        return tuple(value for record in self.records for value in record.accuracies)

    @property
    def agreements(self) -> tuple[float, ...]:
        """Of all keys of all seeds, 0..1."""
        return tuple(value for record in self.records for value in record.agreements)

    @property
    def differences(self) -> tuple[float, ...]:
        """Of all keys of all seeds."""
        return tuple(value for record in self.records for value in record.differences)

    @property
    def mean(self) -> float:
        """Over all keys of all seeds."""
        return sum(self.values) / len(self.values)

    @property
    def chance(self) -> float:
        """See :mod:`paper.findings.chance`; of the most clips of a record."""
        return float(chance(self.task, self._clips))

    @property
    def limit(self) -> float:
        """The accuracy above which one key lies above chance."""
        return limit(self.task, self._clips) / self._clips

    @property
    def above(self) -> int:
        """How many of the values lie above chance."""
        return sum(
            round(value * record.clips) > limit(self.task, record.clips)
            for record in self.records
            for value in record.accuracies
        )

    @property
    def above_chance(self) -> bool:
        """Whether more values lie above chance than luck explains."""
        return self.above > lucky(len(self.values))

    @property
    def _clips(self) -> int:
        return max(record.clips for record in self.records)


class Findings:
    """All rows of all seeds, and what was measured beside them.

    Args:
        records_by_seed: the rows.
        known_clips: see :func:`paper.experiments.known_clips.measuring.measure`; None where it was not run.
        looked_into: see :func:`paper.experiments.looked_into.write`; None likewise.
        small_clips: see :func:`paper.experiments.small_clips.measuring.measure`; None likewise.
    """

    def __init__(
        self,
        records_by_seed: Mapping[int, Records],
        known_clips: dict[str, Any] | None = None,
        looked_into: dict[str, Any] | None = None,
        small_clips: dict[str, Any] | None = None,
    ) -> None:
        self.known_clips, self.looked_into, self.small_clips = known_clips, looked_into, small_clips
        self.by_seed = {seed: records_by_seed[seed] for seed in sorted(records_by_seed)}

    def get(self, task: Task, method: str, way: Way) -> Found | None:
        """A row; None where no seed has it."""
        return self.row(Row(task=task, method=method, way=way))

    def row(self, row: Row) -> Found | None:
        """The same."""
        there = tuple(records[row] for records in self.by_seed.values() if row in records)
        return Found(task=row.task, records=there) if there else None


def percent(share: float) -> str:
    """A share, 0..1, in percent with one digit; halves go up, whatever a sum of floats has made of them."""
    return f"{100 * share + 1e-9:.1f}"


def spread(found: Found) -> str:
    """Mean and range in percent, and the seeds if some are missing."""
    low, high = percent(min(found.values)), percent(max(found.values))
    some = f" [{len(found.records)} of {len(SEEDS)} seeds]" if len(found.records) < len(SEEDS) else ""
    return f"{percent(found.mean)} ({low} to {high}){some}" if len(found.values) > 1 else f"{low}{some}"


def spread_of(shares: Sequence[float]) -> str:
    """Mean and range of shares, 0..1, in percent."""
    return f"{percent(sum(shares) / len(shares))} ({percent(min(shares))} to {percent(max(shares))})"


def cell(found: Found | None) -> str:
    """:func:`spread`, or that the row was not run."""
    return NOT_RUN if found is None else spread(found)


def agreement(found: Found) -> str:
    """How many predictions are those of the plain model on plain clips, under the key that has fewest."""
    least, keys = min(found.agreements, default=0.0), len(found.agreements)
    if least == 1.0:
        return f"every prediction is the same under each of {keys} keys"
    return f"the same prediction for {percent(least)} % of the clips or more under each of {keys} keys"
