"""Changing the key of an artifact: the delta against an export, a whole artifact against copying it.

Everything that is timed ends on the disk, with the digests of its files taken. The export is without parity. Export
and delta each have a process of their own, whose start is not timed; in one process, where libraries are loaded and
memory is warm, both are quicker, and the export gains more.
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
from lcve_deploy import SecurityKey, apply_delta, rotate, rotate_delta
from lcve_deploy.artifact import record_files
from lcve_deploy.artifact.delta import DELTA, read_delta
from lcve_deploy.files.writing import new_folder

if TYPE_CHECKING:  # it loads torch, whose import counts in the processes that are timed
    from benchmarks.common.bench import Bench

TITLE = "Rotating the key"

CASES = (Case(name="apart"), Case(name="together"), Case(name="whole"), Case(name="apply", rounds=1, compares=False))
_ROWS = {
    "apart": ("delta", "a delta over an export without parity, each in a separate process", "≤ 0.02"),
    "together": ("delta", "the same within one process", ""),
    "whole": ("rotate", "a whole artifact over copying and hashing it", "≤ 2"),
}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Files to rotate, and an empty folder on the disk of the artifact."""

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
        if case == "apply":
            return apply(inputs)
        return {"times": {"apart": apart, "together": together, "whole": whole}[case](inputs, turns)}


def call(kind: str, source: str, key_file: str, output: str) -> None:
    """One export or delta in a process of its own; prints its time."""
    import lcve_deploy.verbs.export
    import lcve_deploy.verbs.rotate  # noqa: F401  (our own modules are loaded, libraries are not)

    key = SecurityKey.read(key_file)
    work = {
        "export": lambda: export_without_parity(Path(source), Path(output), key),
        "delta": lambda: rotate_delta(source, output, key=key),
    }[kind]
    print(json.dumps({"seconds": seconds(work)}))


def in_a_process(*arguments: object) -> float:
    return float(figures_of("parts.rotations", *arguments)["seconds"])


def apart(inputs: Inputs, turns: Turns) -> Times:
    """Delta and export without parity, each in a process of its own."""
    runs = {
        "export": ("export", inputs.checkpoint, inputs.key_file, inputs.scratch / "artifact"),
        "delta": ("delta", inputs.artifact, inputs.key_file, inputs.scratch / "delta"),
    }
    times: Times = {kind: [] for kind in runs}
    for turn in range(turns.rounds):
        for kind in turns.order(runs, turn):
            times[kind].append(in_a_process(*runs[kind]))
            empty(inputs.scratch)()
    return times


def copy_and_hash(artifact: Path, output: Path) -> None:
    with new_folder(output) as stage:
        for side in ("server", "client"):
            shutil.copytree(artifact / side, stage / side)
        record_files(stage)


def empty(folder: Path) -> Callable[[], None]:
    def work() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    return work


def together(inputs: Inputs, turns: Turns) -> Times:
    """The same in this process."""
    scratch, key = inputs.scratch, SecurityKey.read(inputs.key_file)
    works = {
        "export": lambda: export_without_parity(inputs.checkpoint, scratch / "artifact", key),
        "delta": lambda: rotate_delta(inputs.artifact, scratch / "delta", key=key),
    }
    return turns.take(works, afterwards=empty(scratch))


def whole(inputs: Inputs, turns: Turns) -> Times:
    """A whole artifact against copying it."""
    scratch, key = inputs.scratch, SecurityKey.read(inputs.key_file)
    works = {
        "copy": lambda: copy_and_hash(inputs.artifact, scratch / "copy"),
        "rotate": lambda: rotate(inputs.artifact, scratch / "whole", key=key),
    }
    return turns.take(works, afterwards=empty(scratch))


def apply(inputs: Inputs) -> dict[str, Any]:
    """Size of a delta, and the time to apply it."""
    delta = inputs.scratch / "out" / DELTA
    rotate_delta(inputs.artifact, delta.parent, key=SecurityKey.read(inputs.key_file))
    took = seconds(lambda: apply_delta(inputs.artifact / "server", delta, inputs.scratch / "server"))
    size, keyed = delta.stat().st_size, sum(tensor.nbytes for tensor in read_delta(delta).tensors.values())
    return {"apply_seconds": took, "delta_bytes": size, "delta_bytes_above_keyed": size - keyed}


def section(here: Measured, others: Sequence[Measured]) -> str:
    names = list(_ROWS)
    ratios = [
        (title, f"{row['seconds']:.2f} s", *spread(row, 3), goal, *cells(others, names, case, name))
        for case, (name, title, goal) in _ROWS.items()
        for row in [here.cases[case]["rows"][name]]
    ]
    head = ("what", "time", *SPREAD, "goal", *heads(others, names))
    found = here.cases["apply"]["found"]
    applied = f"{median(one['apply_seconds'] for one in found):.2f} s"
    text = paragraph(
        f"The delta has {found[0]['delta_bytes'] / 1e6:.1f} MB: the keyed tensors and",
        f"{number(found[0]['delta_bytes_above_keyed'] / 1024, 1)} KiB. Applying it takes {applied} at the operator,",
        f"with the probe run (median of {len(found)} processes).",
    )
    return f"{text}\n\n{table(head, ratios)}"


if __name__ == "__main__":
    call(*sys.argv[1:])
