"""One part of the benchmarks, in a process of its own: ``python -m benchmarks`` starts it."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.common.bench import Bench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pairs", type=int, required=True)
    given = parser.parse_args()
    figures = importlib.import_module(f"benchmarks.parts.{given.name}").measure(Bench(given.work, pairs=given.pairs))
    given.output.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
