"""How long an operator waits for a session, and for its first answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns, seconds
from benchmarks.common.pages import cells, heads
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured
from lcve_deploy import SessionOptions, open_session

TITLE = "Opening a session"
CASES = (Case(name="first", processes=10, rounds=1),)
_ROWS = {
    "open": "opening the graph in ONNX Runtime, digests checked",
    "first": "the first answer after that",
    "later": "an answer later",
}


def measure(bench: Bench, _: str, __: Turns) -> dict[str, Any]:
    """One session, as a process opens it once."""
    server, clip = bench.server, bench.encrypted
    started = time.perf_counter()
    session = open_session(server, SessionOptions(threads=THREADS))
    opened = time.perf_counter() - started
    first, later = (seconds(lambda: session.run(clip)) for _ in range(2))
    return {"times": {"later": [later], "open": [opened], "first": [first]}}


def section(here: Measured, others: Sequence[Measured]) -> str:
    rows, names = here.cases["first"]["rows"], list(here.cases)
    lines = [
        (title, f"{rows[name]['seconds']:.2f} s", *spread(rows[name]), *cells(others, names, "first", name))
        for name, title in _ROWS.items()
    ]
    text = paragraph(
        "Each process opens one session, whose library is not loaded yet and whose files the machine has in its cache,",
        "and runs two clips. The ratio is to the second answer.",
    )
    return f"{text}\n\n{table(('what', 'time', *SPREAD, *heads(others, names)), lines)}"
