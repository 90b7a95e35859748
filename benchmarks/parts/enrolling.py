"""Enrolling a key: one key against an export, and what installing it costs the operator.

Everything that is timed ends on the disk, with the digests of its files taken. The export is without parity. Export
and enrolment each have a process of their own, whose start is not timed; in one process, where libraries are loaded
and memory is warm, both are quicker, and the export gains more.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.common.cases import Case
from benchmarks.common.measure import Times, Turns, seconds
from benchmarks.common.pages import cells, heads
from benchmarks.common.processes import figures_of
from benchmarks.common.tables import SPREAD, number, paragraph, spread, table
from benchmarks.common.unchecked import export_without_parity
from benchmarks.records import Measured
from lcve_deploy import SecurityKey, add_keys, enroll
from lcve_deploy.artifact.names import KEYED

if TYPE_CHECKING:  # it loads torch, whose import counts in the processes that are timed
    from benchmarks.common.bench import Bench

TITLE = "Enrolling a key"

CASES = (Case(name="apart"), Case(name="together"), Case(name="add", rounds=1, compares=False))
_ROWS = {
    "apart": ("a key over an export without parity, each in a separate process", "≤ 0.02"),
    "together": ("the same within one process", ""),
}
_NAME = "camera-7"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files to enroll from, and an empty folder on the disk of the artifact."""

    checkpoint: Path
    artifact: Path
    key_file: Path
    scratch: Path


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        artifact, scratch = Path(folder) / "artifact", Path(folder) / "scratch"
        shutil.copytree(bench.artifact, artifact, ignore=shutil.ignore_patterns("engines"))
        scratch.mkdir()
        inputs = Inputs(checkpoint=bench.checkpoint, artifact=artifact, key_file=bench.key_file, scratch=scratch)
        if case == "add":
            return add(inputs)
        return {"times": {"apart": apart, "together": together}[case](inputs, turns)}


def call(kind: str, source: str, key_file: str, output: str) -> None:
    """One export or enrolment in a process of its own; prints its time."""
    import lcve_deploy.verbs.enroll
    import lcve_deploy.verbs.export  # noqa: F401  (our own modules are loaded, libraries are not)

    key = SecurityKey.read(key_file)
    work: dict[str, Callable[[], object]] = {
        "export": lambda: export_without_parity(Path(source), Path(output), key),
        "enroll": lambda: enroll(source, _NAME, output, key=key),
    }
    print(json.dumps({"seconds": seconds(work[kind])}))


def in_a_process(*arguments: object) -> float:
    return float(figures_of("parts.enrolling", *arguments)["seconds"])


def apart(inputs: Inputs, turns: Turns) -> Times:
    """Enrolment and export without parity, each in a process of its own."""
    runs = {
        "export": ("export", inputs.checkpoint, inputs.key_file, inputs.scratch / "artifact"),
        "enroll": ("enroll", inputs.artifact, inputs.key_file, inputs.scratch / "camera"),
    }
    times: Times = {kind: [] for kind in runs}
    for turn in range(turns.rounds):
        for kind in turns.order(runs, turn):
            times[kind].append(in_a_process(*runs[kind]))
            empty(inputs.scratch)()
    return times


def empty(folder: Path) -> Callable[[], None]:
    def work() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    return work


def together(inputs: Inputs, turns: Turns) -> Times:
    """The same in this process."""
    scratch, key = inputs.scratch, SecurityKey.read(inputs.key_file)
    works: dict[str, Callable[[], object]] = {
        "export": lambda: export_without_parity(inputs.checkpoint, scratch / "artifact", key),
        "enroll": lambda: enroll(inputs.artifact, _NAME, scratch / "camera", key=key),
    }
    return turns.take(works, afterwards=empty(scratch))


def add(inputs: Inputs) -> dict[str, Any]:
    """Size of a key folder, and the time to add it to a model, with its probe."""
    camera = inputs.scratch / "camera"
    enroll(inputs.artifact, _NAME, camera, key=SecurityKey.read(inputs.key_file))
    took = seconds(lambda: add_keys(inputs.artifact / "server", {_NAME: camera / "server"}))
    files = [path for path in (camera / "server").iterdir() if path.is_file()]
    return {
        "add_seconds": took,
        "folder_bytes": sum(path.stat().st_size for path in files),
        "keyed_bytes": (camera / "server" / KEYED).stat().st_size,
    }


def section(here: Measured, others: Sequence[Measured]) -> str:
    names = list(_ROWS)
    ratios = [
        (title, f"{row['seconds']:.2f} s", *spread(row, 3), goal, *cells(others, names, case, "enroll"))
        for case, (title, goal) in _ROWS.items()
        if case in here.cases
        for row in [here.cases[case]["rows"]["enroll"]]
    ]
    text = f"{table(('what', 'time', *SPREAD, 'goal', *heads(others, names)), ratios)}"
    if "add" not in here.cases:
        return text
    found = here.cases["add"]["found"]
    added = f"{median(one['add_seconds'] for one in found):.2f} s"
    about = paragraph(
        f"A key folder has {number(found[0]['folder_bytes'] / 1e6, 1)} MB, of which the keyed tensors are",
        f"{number(found[0]['keyed_bytes'] / 1e6, 1)} MB. Adding it takes {added} at the operator, with the probe run",
        f"(median of {len(found)} processes).",
    )
    return f"{about}\n\n{text}"


if __name__ == "__main__":
    call(*sys.argv[1:])
