"""Exporting every official size with the command line: time by stage, peak memory, size of the artifact.

Each size is an official checkpoint with random weights, made here and removed again, and ``lcve-export`` is a
process of its own with parity on one clip. ``make bench-sizes`` runs all; by itself, the smallest:

    python -m benchmarks.parts.sizes VideoMAE-S
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common.cases import Case
from benchmarks.common.pages import missing
from benchmarks.common.tables import paragraph, table
from benchmarks.records import Measured

if TYPE_CHECKING:
    from benchmarks.common.bench import Bench
    from benchmarks.common.measure import Turns
    from benchmarks.common.models import Size

TITLE = "Exporting large models"
CASES = tuple(
    Case(name=name, processes=1, rounds=1, compares=False, rehearsed=False)
    for name in ("VideoMAE-S", "VideoMAE-B", "VideoMAE-L", "VideoMAE-H", "VideoMAEv2-g")
)

_STAGE = re.compile(r"^([a-z][^:]*): (\d+\.\d) s$", re.MULTILINE)
_LIMIT = 24 * 2**30
_STAGES = {
    "reading the checkpoint": "read",
    "scrambling the weights": "scramble",
    "writing the graph": "write",
    "comparing with the plain model": "compare",
    "running the probe": "probe",
    "writing the manifest": "digests",
}
_LOOK = 0.05
"""Seconds between looks at the process."""


def measure(bench: Bench, case: str, _: Turns) -> dict[str, Any]:
    from benchmarks.common.contestants import reason
    from benchmarks.common.models import SIZES

    try:
        return {**measure_size(SIZES[case], bench.work), "reference": "float32"}
    except RuntimeError as error:  # one size that fails does not end the run
        return {"missing": {case: reason(error)}}


def measure_size(size: Size, work: Path) -> dict[str, Any]:
    from lcve_deploy import SecurityKey

    with tempfile.TemporaryDirectory(dir=work) as name, _checkpoint(size, Path(name)) as (checkpoint, weights):
        folder = Path(name)
        SecurityKey.create().write(folder / "key.bin")
        command = [*_export_command(), "--key", folder / "key.bin", "--ckpt", checkpoint, "-o", folder / "artifact"]
        command += ["--verify-clip", _clip(size, folder)]
        command += ["--num-heads", size.heads, "--frames", size.frames, "--size", size.pixels]
        print(f"  exporting {size.name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        peak, said = _watched([str(part) for part in command], folder)
        return {
            "parameters": weights // 4,
            "weights_bytes": weights,
            "seconds": time.monotonic() - started,
            "stages": {stage: float(seconds) for stage, seconds in _STAGE.findall(said)},
            "peak_bytes": peak,
            "artifact_bytes": sum(path.stat().st_size for path in (folder / "artifact").rglob("*") if path.is_file()),
        }


@contextmanager
def _checkpoint(size: Size, folder: Path) -> Iterator[tuple[Path, int]]:
    """A file with random weights, which are no longer in memory when the export starts."""
    from benchmarks.common.models import save_checkpoint

    path = folder / "model.pth"
    print(f"  making a {size.name} with random weights", file=sys.stderr, flush=True)
    weights = save_checkpoint(size, path)
    try:
        yield path, weights
    finally:
        path.unlink()


def _export_command() -> list[Path]:
    """``lcve-export`` of this environment."""
    return [Path(sys.executable).with_name("lcve-export")]


def _clip(size: Size, folder: Path) -> Path:
    import numpy as np

    from lcve_deploy import ClipGeometry
    from lcve_deploy.samples import real_clips

    geometry = ClipGeometry(frames=size.frames, height=size.pixels, width=size.pixels, cube=size.cube)
    np.save(folder / "clip.npy", real_clips(geometry)[0])
    return folder / "clip.npy"


def _watched(command: list[str], folder: Path) -> tuple[int, str]:
    """Peak resident memory of a command (Linux), and what it says on standard error.

    The kernel's own mark is read while the process lives: ``getrusage`` would count the parent's memory as well.
    """
    said, peak = folder / "stderr", 0
    with said.open("w") as errors, subprocess.Popen(command, stderr=errors, stdout=subprocess.DEVNULL) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            peak = max(peak, _high_water(status))
            time.sleep(_LOOK)
    if process.returncode:
        raise RuntimeError(f"exit status {process.returncode}: {' '.join(said.read_text().splitlines()[-2:])}")
    return peak, said.read_text()


def _high_water(status: Path) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())  # not there once the process has ended
    return int(found[1]) * 1024 if found else 0


def section(here: Measured, others: Sequence[Measured]) -> str:
    text = paragraph(
        "`lcve-export` of official checkpoints with random weights (VideoMAEv2-g in shape: patch 14, 2048 tokens),",
        "including parity on one clip. Peak memory is that of the whole process; the goal is at most",
        f"{_LIMIT / 2**30:.0f} GiB. The last columns are the stages of the export. A reference in float64 is that of",
        "`--thorough`; exports compare with float32 otherwise.",
    )
    return "\n\n".join((text, *(_of_machine(one) for one in (here, *others))))


def _of_machine(measured: Measured) -> str:
    head = ("model", "reference", "parameters", "weights", "peak memory", "artifact", "whole", *_STAGES.values())
    rows = [_row(case.name, measured.cases[case.name], len(head)) for case in CASES if case.name in measured.cases]
    return f"{measured.machine}, {measured.date}:\n\n{table(head, rows)}"


def _row(name: str, figures: dict[str, Any], width: int) -> tuple[str, ...]:
    if figures["missing"]:
        return missing(name, figures["missing"][name], width)
    found = figures["found"][0]
    return (
        name,
        found["reference"],
        f"{found['parameters'] / 1e6:.0f} M",
        *(f"{found[key] / 1e9:.2f} GB" for key in ("weights_bytes", "peak_bytes", "artifact_bytes")),
        f"{found['seconds']:.0f} s",
        *(f"{found['stages'][stage]:.1f} s" for stage in _STAGES),
    )


def main() -> None:
    from benchmarks.common.models import SIZES

    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:]:
            print(json.dumps({name: measure_size(SIZES[name], Path(folder))}, indent=2))


if __name__ == "__main__":
    main()
