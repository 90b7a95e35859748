"""How long an operator waits for a session and for its first answer, and what memory a session takes as it opens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns, seconds
from benchmarks.common.pages import cells, heads
from benchmarks.common.summary import Figures
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.model.precision import Precision

TITLE = "Opening a session"
_FIRST = "first"
_ROWS = {
    "open": "opening the graph in ONNX Runtime, digests checked",
    "first": "the first answer after that",
    "later": "an answer later",
}
LOADS = {
    "onnxruntime-mapped": (EngineKind.ONNXRUNTIME, True, "ONNX Runtime, mapped (`lcve run`, `verify`, `batch`)"),
    "onnxruntime-read": (EngineKind.ONNXRUNTIME, False, "ONNX Runtime, read (`lcve serve`)"),
    "openvino-mapped": (EngineKind.OPENVINO, True, "OpenVINO, mapped"),
    "openvino-read": (EngineKind.OPENVINO, False, "OpenVINO, read (`lcve serve`)"),
}
CASES = (
    Case(name=_FIRST, processes=10, rounds=1),
    *(Case(name=name, rounds=1, compares=False) for name in LOADS),
)
_SAMPLED = 0.002
"""Seconds between two looks at the memory."""


def measure(bench: Bench, case: str, _: Turns) -> dict[str, Any]:
    """One session, as a process opens it once."""
    return _first(bench) if case == _FIRST else _load(bench, *LOADS[case][:2])


def _first(bench: Bench) -> dict[str, Any]:
    server, clip = bench.server, bench.encrypted
    started = time.perf_counter()
    session = open_session(server, SessionOptions(threads=THREADS))
    opened = time.perf_counter() - started
    first, later = (seconds(lambda: session.run(clip)) for _ in range(2))
    return {"times": {"later": [later], "open": [opened], "first": [first]}}


def _load(bench: Bench, kind: EngineKind, mapped: bool) -> dict[str, Any]:
    options = SessionOptions(engine=bench.engine(kind, Precision.FP32), threads=THREADS, mapped=mapped)
    with _own_memory() as memory:
        took = seconds(lambda: open_session(bench.server, options))
    return {"times": {"load": [took]}, "bytes": memory[-1] - memory[0]}


@contextmanager
def _own_memory() -> Iterator[list[int]]:
    """Yield a list that has the own memory at the start, and in the end its maximum."""
    seen, done = [_anonymous()], threading.Event()

    def look() -> None:
        while not done.wait(_SAMPLED):
            seen[1:] = [max(*seen, _anonymous())]

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def _anonymous() -> int:
    """Return the bytes of this process that no file has (Linux)."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def section(here: Measured, others: Sequence[Measured]) -> str:
    parts = (_waiting(here, others), _loading(here))
    return "\n\n".join(part for part in parts if part)


def _waiting(here: Measured, others: Sequence[Measured]) -> str:
    if _FIRST not in here.cases:
        return ""
    rows, names = here.cases[_FIRST]["rows"], list(here.cases)
    lines = [
        (title, f"{rows[name]['seconds']:.2f} s", *spread(rows[name]), *cells(others, names, _FIRST, name))
        for name, title in _ROWS.items()
    ]
    text = paragraph(
        "Each process opens one session, whose library is not loaded yet and whose files the machine has in its cache,",
        "and runs two clips. The ratio is to the second answer.",
    )
    return f"{text}\n\n{table(('what', 'time', *SPREAD, *heads(others, names)), lines)}"


def _loading(here: Measured) -> str:
    rows = [_load_row(title, here.cases[case]) for case, (_, _, title) in LOADS.items() if case in here.cases]
    text = paragraph(
        "Time and memory of opening a session, the probe included: files are mapped, or read into memory. The memory",
        "is what no file has, at most, beyond what the process had before. The weights have 351 MB.",
    )
    head = ("how", "time", "memory of its own, at most", "processes")
    return f"{text}\n\n{table(head, rows)}" if rows else ""


def _load_row(title: str, figures: Figures) -> tuple[str, ...]:
    found = figures["found"]
    memory = median(process["bytes"] for process in found)
    return (title, f"{figures['rows']['load']['seconds']:.1f} s", f"{memory / 2**20:.0f} MiB", str(len(found)))
