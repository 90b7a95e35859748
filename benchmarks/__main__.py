"""Speed and memory of a full-size VideoMAE-B, by itself and against peers: ``make bench``.

A part has cases. Every case runs in several fresh processes, and in each of them its contestants take turns in orders
that change. Figures go to ``benchmarks/results/benchmarks.json`` after every process, and from there to
``docs/evidence/benchmarks.md`` and its charts. A run that is cut off continues: what this machine measured with the
same code, libraries and rounds is not measured twice, unless ``--again`` or ``--process`` asks for it.
``--only peers`` runs one part, ``--case`` one case of it, ``--process 3`` one process; ``--only page`` measures
nothing. ``--processes 1 --rounds 1`` shows whether everything works.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.common.cases import Case
from benchmarks.common.files import RESULTS, ROOT
from benchmarks.common.load import clock, others
from benchmarks.common.processes import module, say
from benchmarks.common.stamp import code, machine, stamp
from benchmarks.records import Records
from benchmarks.report import PARTS, part_of, write_page

FIGURES = RESULTS / "benchmarks.json"
SEPARATE = ("serving", "sizes")
"""Parts that only run when they are named: they take long, or need more than .venv."""

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
_REHEARSAL = 0
"""Number of the process that makes the files."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One case of one part, and those of its processes that are asked for."""

    part: str
    case: Case
    numbers: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.part}, {self.case.name}"


def tasks(given: argparse.Namespace) -> Iterator[Task]:
    """What to run, in the order of the page."""
    names = given.only or [name for name in PARTS if name not in SEPARATE]
    for part in (name for name in PARTS if name in names):
        for case in part_of(part).CASES:
            if given.case and case.name not in given.case:
                continue
            asked = {name: value for name in ("processes", "rounds") if (value := getattr(given, name)) is not None}
            case = replace(case, **asked)
            numbers = tuple(given.process) or tuple(range(1, case.processes + 1))
            yield Task(part=part, case=case, numbers=numbers)


def run(task: Task, number: int, work: Path) -> dict[str, Any]:
    """Run one process; return its stamp and its figures."""
    output = work / f"{task.part}.json"
    case = task.case
    command = module(
        *("part", task.part, case.name, "--work", work, "--output", output),
        *("--process", number, "--rounds", case.rounds),
    )
    found = {**stamp(), "rounds": case.rounds}
    before = clock()
    environment = {**os.environ, **_THREADS, "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
    subprocess.run([*case.prefix, *command], check=True, env=environment, cwd=ROOT)
    after = clock()
    found["others"] = others(before, after)
    say(f"{task.name}, process {number}: {after.wall - before.wall:.0f} s, other work {found['others']:.2f} cores")
    return {**found, "figures": json.loads(output.read_text())}


def rehearse(task: Task, work: Path) -> None:
    """Run the process that makes the files, once for each folder of files."""
    done = work / f"{task.part}-{task.case.name}.rehearsed"
    if task.case.rehearsed and not done.exists():
        run(replace(task, case=replace(task.case, rounds=1)), _REHEARSAL, work)
        done.touch()


def measure(task: Task, work: Path, records: Records, *, again: bool, note: str) -> None:
    """Run the processes that are missing, and keep each."""
    here, like = machine(), {**stamp(), "rounds": task.case.rounds}
    missing = [n for n in task.numbers if again or not records.has(here, task.part, task.case.name, n, like)]
    if not missing:
        say(f"{task.name}: there already; --again measures it again")
        return
    rehearse(task, work)
    for number in missing:
        process = run(task, number, work)
        records.add(here, task.part, task.case.name, number, {**process, **({"note": note} if note else {})})


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[*PARTS, "page"], default=[], help="may be repeated")
    parser.add_argument("--case", action="append", default=[], help="of the part; may be repeated")
    parser.add_argument("--process", type=int, action="append", default=[], help="its number; may be repeated")
    parser.add_argument("--processes", type=int, help="number of processes, in place of each case's own")
    parser.add_argument("--rounds", type=int, help="rounds of a process, in place of each case's own")
    parser.add_argument("--again", action="store_true", help="measure what is there already, too")
    parser.add_argument("--note", default="", help="on the page, under the figures of this run")
    parser.add_argument("--rehearse", action="store_true", help="only make the files that processes open")
    parser.add_argument("--work", type=Path, help="folder that keeps the models, to repeat parts sooner")
    return parser.parse_args()


def main() -> None:
    given, records = parsed(), Records(FIGURES)
    with ExitStack() as stack:
        work = given.work.resolve() if given.work else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work = work / code()
        work.mkdir(parents=True, exist_ok=True)
        for task in tasks(given):
            if given.rehearse:
                rehearse(task, work)
            else:
                measure(task, work, records, again=given.again or bool(given.process), note=given.note)
    for path in write_page(records):
        say(f"wrote {path}")


if __name__ == "__main__":
    main()
