"""Where results are kept, and the pages that are made from them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks/results"
DOCS = ROOT / "docs/evidence"
EXAMPLE = ROOT / "examples/moving_digits"
