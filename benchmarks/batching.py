"""A batch of 200 videos whose worker and then whose command are killed outright, and that is started again.

    python -m benchmarks.batching                 200 videos; prints figures as JSON
    python -m benchmarks.batching --videos 40

Some of the videos cannot be read. At the end there must be one row for each, in order, with an error exactly where
there should be one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common.files import ROOT
from benchmarks.common.processes import LCVE

_WORKER = b"ray::MapWorker"


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """``lcve`` as a process of its own."""
    before = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    path = os.pathsep.join(filter(None, [environment.pop("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.Popen(
        [*LCVE, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **before, "PYTHONPATH": path, **environment},
    )


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and these in turn."""
    parents = {}
    for about in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parents[int(about.name)] = int((about / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found[1:]


def named(pids: Sequence[int], name: bytes) -> list[int]:
    """Those whose command line has a name in it."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if name in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def workers(pid: int) -> list[int]:
    """Actors of the batch that a command runs."""
    return named(descendants(pid), _WORKER)


def results(stage: Path) -> set[str]:
    """Rows that are done, by the names of their files."""
    return {path.name for path in stage.glob("rows/[0-9]*.json")}


def wait_until(holds: Callable[[], object], process: subprocess.Popen[str] | None = None, seconds: float = 120) -> None:
    """Look until something holds; fails where a process ends before, or after some time."""
    last = time.monotonic() + seconds
    while not holds():
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"it has ended: {process.communicate()}")
        if time.monotonic() > last:
            raise RuntimeError("it has taken too long")
        time.sleep(0.02)


def kill_command(process: subprocess.Popen[str]) -> float:
    """Kill a command outright; returns after how many seconds its workers, which hold the key, had ended too."""
    started, left = time.monotonic(), workers(process.pid)
    process.kill()
    process.communicate()
    wait_until(lambda: not named(left, _WORKER))
    return time.monotonic() - started


def kill_worker(process: subprocess.Popen[str]) -> None:
    """Kill one worker outright."""
    os.kill(workers(process.pid)[0], signal.SIGKILL)


def make_videos(folder: Path, count: int) -> dict[str, bool]:
    """Small videos, every twentieth one unreadable; returns by name whether each is good."""
    import numpy as np

    from lcve_deploy.video import write_video

    folder.mkdir()
    good, random = {}, np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:04d}.mp4"
        good[path.name] = number % 20 != 7
        frames = random.integers(0, 256, (40, 12, 16, 3), dtype=np.uint8).repeat(16, axis=1).repeat(16, axis=2)
        write_video(path, frames)
        if not good[path.name]:
            path.write_bytes(path.read_bytes()[:200] if number % 40 == 7 else b"")
    return good


def export(folder: Path) -> None:
    """A key and the artifact of the tests' tiny model."""
    tiny = ROOT / "tests/data/oracle/v1_model_args.pth"
    options = ["--num-heads", 3, "--frames", 8, "--size", 32, "--stride", 1]
    for arguments in (
        ("keygen", "-o", folder / "key.bin"),
        ("export", "--key", folder / "key.bin", "--ckpt", tiny, "-o", folder / "service", *options),
    ):
        subprocess.run([*LCVE, *map(str, arguments)], check=True, capture_output=True, cwd=ROOT)


def phases(folder: Path, good: dict[str, bool]) -> Iterator[tuple[str, Any]]:
    """Kill a worker, kill the command, run it again; figures by name."""
    output, stage, count = folder / "results.parquet", folder / ".results.parquet.part", len(good)
    command: list[object] = ["batch", folder / "videos", "--artifact", folder / "service", "--key", folder / "key.bin"]
    command += ["-o", output, "--workers", 2, "--views", "3x1", "--json"]
    started = time.monotonic()
    process = start(*command)
    wait_until(lambda: results(stage), process)
    yield "seconds to the first row", time.monotonic() - started
    wait_until(lambda: len(results(stage)) >= count // 5, process)
    kill_worker(process)
    yield "rows when a worker was killed", len(results(stage))
    wait_until(lambda: len(results(stage)) >= count // 2, process)
    seconds = kill_command(process)
    before = {path.name: path.stat().st_mtime_ns for path in (stage / "rows").glob("[0-9]*.json")}
    begun = len(list((stage / "tried").iterdir()))
    yield "rows when the command was killed", len(before)
    yield "attempts until then", begun
    yield "seconds until its workers had ended", seconds
    yield "seconds of the first run", time.monotonic() - started
    again = time.monotonic()
    process = start(*command)
    printed, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(errors)
    summary = json.loads(printed)
    yield "seconds of the second run", time.monotonic() - again
    yield "rows kept by the second run", summary["kept"]
    yield "attempts of the second run", summary["attempts"]
    yield "attempts that were redone", begun + summary["attempts"] - count
    yield "rows", _checked(output, good, summary)
    yield "rows with an error", summary["errors"]
    yield "left behind", [path.name for path in folder.iterdir() if path.name.startswith(".")]


def _checked(output: Path, good: dict[str, bool], summary: dict[str, Any]) -> int:
    """Rows of the table, once they are what they must be."""
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(output).to_pylist()
    names = [Path(row["path"]).name for row in rows]
    if names != sorted(good):
        raise RuntimeError(f"expected each video once and in order, received {names}")
    wrong = [row for row, name in zip(rows, names, strict=True) if (row["error"] is None) != good[name]]
    if wrong or summary["errors"] != sum(not is_good for is_good in good.values()):
        raise RuntimeError(f"expected errors for the unreadable videos alone, received {wrong}")
    return len(rows)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(folder)
        good = make_videos(folder / "videos", arguments.videos)
        figures: dict[str, Any] = {"videos": arguments.videos}
        for figure, value in phases(folder, good):
            figures[figure] = round(value, 1) if isinstance(value, float) else value
            print(f"{figure}: {figures[figure]}", file=sys.stderr)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
