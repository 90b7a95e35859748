"""How long an operator waits for a session, and for its first answer."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.tables import table
from lcve_deploy import SessionOptions, open_session

TITLE = "Opening a session"


def measure(bench: Bench) -> dict[str, Any]:
    opening, answering = [], []
    for _ in range(bench.few):
        started = time.perf_counter()
        session = open_session(bench.server, SessionOptions(threads=THREADS))
        opened = time.perf_counter()
        session.run(bench.encrypted)
        opening.append(opened - started)
        answering.append(time.perf_counter() - opened)
    return {"times": bench.few, "open_seconds": median(opening), "first_answer_seconds": median(answering)}


def section(figures: dict[str, Any]) -> str:
    rows = [
        ("opening the graph in ONNX Runtime, digests checked", f"{figures['open_seconds']:.2f} s"),
        ("the first answer after that", f"{figures['first_answer_seconds']:.2f} s"),
    ]
    return f"Medians of {figures['times']}.\n\n{table(('what', 'time'), rows)}"
