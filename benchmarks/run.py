"""Speed and memory of a full-size VideoMAE-B, by itself and against peers: ``make bench``.

Every part runs in a process of its own and gives figures of its own, all of them ratios of work that takes
turns. They go to ``benchmarks/results.json``, and from there to ``docs/evidence/benchmarks.md`` and its chart.
``--pairs 2`` gives a first impression; figures to quote need 20. ``--only peers`` repeats one part and keeps
the others; ``--only page`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from report import PARTS, write_page

from lcve_deploy.runtime.cpu import cpu_name

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
SEPARATE = ("serving", "sizes")
"""Parts that only run when they are named: they take long, or need more than .venv."""

_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
_VERSIONS = ("numpy", "onnxruntime", "openvino", "onnx-ir", "torch")
_NEEDS = {"rotations": "rotation"}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stamp() -> dict[str, Any]:
    """When, where and with what a part was measured."""
    versions = {}
    for name in _VERSIONS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    machine = f"{cpu_name()}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    return {"date": date.today().isoformat(), "machine": machine, "versions": versions}


def measure(name: str, work: Path, pairs: int) -> dict[str, Any]:
    output = work / f"{name}.json"
    command = [sys.executable, str(HERE / "part.py"), name, "--work", str(work), "--output", str(output)]
    started = time.monotonic()
    say(f"{name} ...")
    subprocess.run([*command, "--pairs", str(pairs)], check=True, env={**os.environ, **_THREADS})
    say(f"{name}: {time.monotonic() - started:.0f} s")
    return {**stamp(), "pairs": pairs, "figures": json.loads(output.read_text())}


def chosen(only: list[str]) -> list[str]:
    """Parts to run, in their order; a part whose script is not there is left out."""
    names = only or [name for name in PARTS if name not in SEPARATE]
    return [name for name in PARTS if name in names and find_spec(_NEEDS.get(name, name))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", action="append", choices=[*PARTS, "page"], default=[], help="may be repeated")
    parser.add_argument("--work", type=Path, help="folder that keeps the models, to repeat parts sooner")
    given = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    with ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        work.mkdir(parents=True, exist_ok=True)
        for name in chosen(given.only):
            results[name] = measure(name, work, given.pairs)
            RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    for path in write_page(results):
        say(f"wrote {path}")


if __name__ == "__main__":
    main()
