"""Runs the rows that are missing, then writes the page: ``python -m paper``; ``make paper``.

Every row is kept as soon as it is done, so that work that was cut off goes on where it stopped. Models for plain clips
are kept in ``paper/work/``, which git ignores, and trained again where they are missing and needed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from paper.experiments import looked_into
from paper.experiments.known_clips import measuring as known_clips
from paper.experiments.records import Row, add_record, read_records
from paper.experiments.rows import rows
from paper.experiments.small_clips import measuring as small_clips
from paper.findings.seeds import SEEDS
from paper.page.writing import write_page

_WORK = Path(__file__).parent / "work"


def main() -> None:
    """Parse, run what is missing, write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, choices=SEEDS, action="append", help="may be repeated; all by default")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name contains it; --list shows names")
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of torch and ONNX Runtime")
    parser.add_argument("--list", action="store_true", help="show the rows, and how far they are")
    parser.add_argument("--page", action="store_true", help="write the page and its pictures alone")
    given = parser.parse_args()
    if not any(given.only in str(row) for row in rows()):
        parser.error(f"no row has {given.only!r} in its name; --list shows the names")
    if given.threads < 1:
        parser.error(f"expected at least one thread, received {given.threads}")
    chosen = {seed: [row for row in rows() if given.only in str(row)] for seed in given.seed or SEEDS}
    if given.list:
        for seed, names in chosen.items():
            _list(seed, names)
        return
    if not given.page:
        missing = {seed: _missing(seed, names) for seed, names in chosen.items()}
        _run(chosen if given.again else missing, given.threads)
        if not given.only:
            _measure_beside(again=given.again)
    write_page()


def _measure_beside(*, again: bool) -> None:
    """What is not of one seed."""
    if again or not known_clips.PATH.exists():
        print("known clips", file=sys.stderr, flush=True)
        known_clips.write()
    if again or not looked_into.PATH.exists():
        print("what lies behind it", file=sys.stderr, flush=True)
        looked_into.write(SEEDS, _WORK)
    if again or not small_clips.PATH.exists():
        print("small clips", file=sys.stderr, flush=True)
        small_clips.write(SEEDS, _WORK)


def _missing(seed: int, names: list[Row]) -> list[Row]:
    there = read_records(seed)
    return [row for row in names if row not in there]


def _list(seed: int, names: list[Row]) -> None:
    there = read_records(seed)
    for row in names:
        print(f"seed {seed}  {row!s:<42}{f'{there[row].accuracy:.3f}' if row in there else 'not run'}")


def _run(chosen: dict[int, list[Row]], threads: int) -> None:
    import torch

    from paper.experiments.running import Experiments

    torch.set_num_threads(threads)
    total, done = sum(map(len, chosen.values())), 0
    for seed, names in chosen.items():
        line = _Line()
        experiments = Experiments(seed=seed, work=_WORK, say=line.say)
        for row in names:
            done += 1
            line.start(f"[{done}/{total}] seed {seed}  {row}")
            record = experiments.run(row)
            add_record(seed, row, record)
            line.end(f"{record.accuracy:.3f}")


class _Line:
    """One line a row on standard error; on a terminal it tells how far the row is."""

    def __init__(self) -> None:
        self._head, self._started, self._live = "", 0.0, sys.stderr.isatty()

    def start(self, head: str) -> None:
        self._head, self._started = head, time.monotonic()

    def say(self, text: str) -> None:
        if self._live:
            print(f"\r\x1b[K{self._head}  {text}", end="", file=sys.stderr, flush=True)

    def end(self, text: str) -> None:
        lead = "\r\x1b[K" if self._live else ""
        print(f"{lead}{self._head}  {text}  {time.monotonic() - self._started:.0f} s", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
