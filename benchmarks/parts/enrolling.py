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
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.measure import Ratio, interleaved, ratio, seconds
from benchmarks.common.processes import figures_of
from benchmarks.common.tables import number, paragraph, table
from benchmarks.common.unchecked import export_without_parity
from lcve_deploy import SecurityKey, add_keys, enroll
from lcve_deploy.artifact.names import KEYED

if TYPE_CHECKING:  # it loads torch, whose import counts in the processes that are timed
    from benchmarks.common.bench import Bench

TITLE = "Enrolling a key"

_MAX_PAIRS = 10
"""Pairs that are enough: what is compared differs many times over."""
_NAME = "camera-7"

_ROWS = {
    "enroll_over_export": ("a key over an export without parity, each in a separate process", "≤ 0.02"),
    "enroll_over_export_in_one_process": ("the same within one process", ""),
}


def measure(bench: Bench) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=bench.work) as folder:
        artifact, scratch = Path(folder) / "artifact", Path(folder) / "scratch"
        shutil.copytree(bench.artifact, artifact, ignore=shutil.ignore_patterns("engines"))
        scratch.mkdir()
        pairs = min(bench.pairs, _MAX_PAIRS)
        return measure_enrolling(bench.checkpoint, artifact, bench.key_file, scratch, pairs)


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


def measure_apart(checkpoint: Path, artifact: Path, key_file: Path, scratch: Path, pairs: int) -> Ratio:
    """Enrolment over export without parity, each in a process of its own."""
    exports, keys = [], []
    for _ in range(pairs):
        exports.append(in_a_process("export", checkpoint, key_file, scratch / "artifact"))
        empty(scratch)()
        keys.append(in_a_process("enroll", artifact, key_file, scratch / "camera"))
        empty(scratch)()
    return ratio(exports, keys)


def empty(folder: Path) -> Callable[[], None]:
    def work() -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    return work


def measure_enrolling(checkpoint: Path, artifact: Path, key_file: Path, scratch: Path, pairs: int) -> dict[str, Any]:
    """Ratios of interleaved pairs; ``scratch`` is an empty folder on the disk of the artifact."""
    key, camera = SecurityKey.read(key_file), scratch / "camera"
    apart = measure_apart(checkpoint, artifact, key_file, scratch, pairs)
    together = interleaved(
        lambda: export_without_parity(checkpoint, scratch / "artifact", key),
        lambda: enroll(artifact, _NAME, camera, key=key),
        pairs=pairs,
        afterwards=empty(scratch),
    )
    enroll(artifact, _NAME, camera, key=key)
    adding = seconds(lambda: add_keys(artifact / "server", {_NAME: camera / "server"}))
    files = [path for path in (camera / "server").iterdir() if path.is_file()]
    figures = {
        "enroll_over_export": asdict(apart),
        "enroll_over_export_in_one_process": asdict(together),
        "add_seconds": adding,
        "folder_bytes": sum(path.stat().st_size for path in files),
        "keyed_bytes": (camera / "server" / KEYED).stat().st_size,
    }
    empty(scratch)()
    return figures


def section(figures: dict[str, Any]) -> str:
    ratios = [
        (
            title,
            f"{figures[key]['second']:.2f} s",
            f"{figures[key]['ratio']:.3f}",
            f"{figures[key]['low']:.3f} to {figures[key]['high']:.3f}",
            goal,
        )
        for key, (title, goal) in _ROWS.items()
    ]
    adding = ("adding it, at the operator, with the probe", f"{figures['add_seconds']:.2f} s", "", "", "")
    pairs = figures["enroll_over_export"]["pairs"]
    text = paragraph(
        f"{pairs} interleaved pairs. A key folder has {number(figures['folder_bytes'] / 1e6, 1)} MB, of which the",
        f"keyed tensors are {number(figures['keyed_bytes'] / 1e6, 1)} MB.",
    )
    return f"{text}\n\n{table(('what', 'time', 'ratio', 'quartiles', 'goal'), [*ratios, adding])}"


if __name__ == "__main__":
    call(*sys.argv[1:])
