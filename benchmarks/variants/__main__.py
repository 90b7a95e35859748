"""Variants of the scheme and attacks on them, as a table in ``docs/evidence/security.md``: ``make variants``.

About ten minutes of one processor. Figures go to ``benchmarks/results/variants.json``; ``--only`` repeats one subject.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.common.files import DOCS, RESULTS
from benchmarks.common.stamp import machine, stamp
from benchmarks.variants.controls import controls_hold, run_controls
from benchmarks.variants.page import write_table
from benchmarks.variants.subjects import Subject, digits, fine_tuned_digits, vit
from benchmarks.variants.trials import strongest, this_scheme, weaker
from lcve_deploy.video import encode_png

FIGURES = RESULTS / "variants.json"
SEED = 0  # of the planted cases; the orders and bases of the subjects are new at each run
PICTURED, PICTURE = "vit", DOCS / "variants.png"
SUBJECTS: dict[str, Callable[[], tuple[Subject, Subject | None]]] = {
    "digits": lambda: (digits(), fine_tuned_digits()),
    "vit": lambda: (vit(), None),
}


def measure(name: str) -> dict[str, Any]:
    """Run all attacks on one subject, under orders and bases that are new at each run."""
    rng, (subject, reference) = np.random.default_rng(), SUBJECTS[name]()
    began = time.perf_counter()
    found, picture = strongest(subject, reference, rng)
    if name == PICTURED:
        PICTURE.write_bytes(encode_png(picture))
    figures = {
        "title": subject.title,
        "this_scheme": this_scheme(subject, reference, rng),
        "strongest": found,
        "weaker": weaker(subject, rng),
    }
    return {**stamp(), "machine": machine(), **figures, "seconds": round(time.perf_counter() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=[*SUBJECTS, "page"], default=[], help="may be repeated")
    chosen = parser.parse_args().only or list(SUBJECTS)
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in [name for name in chosen if name in SUBJECTS]:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures[name] = measure(name)
        scores = run_controls(np.random.default_rng(SEED))
        figures["controls"] = {attack: list(pair) for attack, pair in scores.items()}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        if not controls_hold(scores):
            raise SystemExit(f"a control failed: {scores}")
    print(write_table(figures), file=sys.stderr)


if __name__ == "__main__":
    main()
