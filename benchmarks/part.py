"""One process of one case: ``python -m benchmarks`` starts it."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.common.bench import Bench
from benchmarks.common.measure import Turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part")
    parser.add_argument("case")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--process", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    given = parser.parse_args()
    part = importlib.import_module(f"benchmarks.parts.{given.part}")
    figures = part.measure(Bench(given.work), given.case, Turns(rounds=given.rounds, process=given.process))
    given.output.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
