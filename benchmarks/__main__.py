"""Speed and memory of a full-size VideoMAE-B, by itself and against peers: ``make bench``.

Every part runs in a process of its own and gives figures of its own, all of them ratios of work that takes
turns. They go to ``benchmarks/results/benchmarks.json``, and from there to ``docs/evidence/benchmarks.md`` and its
chart.
``--pairs 2`` gives a first impression; figures to quote need 20. ``--only peers`` repeats one part and keeps
the others; ``--only page`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.common.files import RESULTS, ROOT
from benchmarks.common.processes import module, say
from benchmarks.common.stamp import stamp
from benchmarks.report import PARTS, write_page

FIGURES = RESULTS / "benchmarks.json"
SEPARATE = ("serving", "sizes")
"""Parts that only run when they are named: they take long, or need more than .venv."""

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")


def measure(name: str, work: Path, pairs: int) -> dict[str, Any]:
    output = work / f"{name}.json"
    command = module("part", name, "--work", work, "--output", output, "--pairs", pairs)
    started = time.monotonic()
    say(f"{name} ...")
    subprocess.run(command, check=True, env={**os.environ, **_THREADS}, cwd=ROOT)
    say(f"{name}: {time.monotonic() - started:.0f} s")
    return {**stamp(), "pairs": pairs, "figures": json.loads(output.read_text())}


def chosen(only: list[str]) -> list[str]:
    """Parts to run, in their order."""
    names = only or [name for name in PARTS if name not in SEPARATE]
    return [name for name in PARTS if name in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", action="append", choices=[*PARTS, "page"], default=[], help="may be repeated")
    parser.add_argument("--work", type=Path, help="folder that keeps the models, to repeat parts sooner")
    given = parser.parse_args()
    results = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    with ExitStack() as stack:
        work = given.work.resolve() if given.work else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        for name in chosen(given.only):
            results[name] = measure(name, work, given.pairs)
            FIGURES.write_text(json.dumps(results, indent=2) + "\n")
    for path in write_page(results):
        say(f"wrote {path}")


if __name__ == "__main__":
    main()
