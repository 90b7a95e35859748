"""What the key costs on the server: every engine against the same engine of the plain model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.measure import PAUSE, Turns, seconds
from benchmarks.common.pages import cells, heads, missing
from benchmarks.common.plain import plain_cubes
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured
from lcve_deploy import Session, SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.model.precision import Precision

TITLE = "What the key costs on the server"

ENGINES = {
    f"{kind}-{precision}": (kind, precision)
    for kind in (EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)
    for precision in (Precision.FP32, Precision.INT8, Precision.FP16, Precision.BF16)
}
CASES = tuple(Case(name=name) for name in ENGINES)
_GOAL = 1.02
_MAX_SECONDS = 15.0


class TooSlowError(Exception):
    """An engine that nobody would use on this machine."""


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    try:
        ours, plain = _sessions(bench, *ENGINES[case])
    except (*FAILURES, TooSlowError) as error:
        return {"missing": {"scrambled": reason(error)}}
    cubes = plain_cubes(bench.clip, bench.plain_server)
    works = {"plain": lambda: plain.run(cubes), "scrambled": lambda: ours.run(bench.encrypted)}
    return {"times": turns.take(works, pause=PAUSE)}


def _sessions(bench: Bench, kind: EngineKind, precision: Precision) -> tuple[Session, Session]:
    ours = open_session(bench.server, SessionOptions(engine=bench.engine(kind, precision), threads=THREADS))
    took = seconds(lambda: ours.run(bench.encrypted))
    if took > _MAX_SECONDS:
        raise TooSlowError(f"one clip takes {took:.0f} s here")
    engine = bench.plain_engine(kind, precision)
    return ours, open_session(bench.plain_server, SessionOptions(engine=engine, threads=THREADS))


def section(here: Measured, others: Sequence[Measured]) -> str:
    head = ("engine", "latency, scrambled", *SPREAD, *heads(others, list(here.cases)))
    rows = [row for case in here.cases for row in _rows(here, others, case, len(head))]
    text = paragraph(
        "Each engine of the scrambled model, compared with the same engine built from an export of the same model",
        f"without a key, {THREADS} threads; the ratio is scrambled over plain. Goal: at most {_GOAL}.",
    )
    return f"{text}\n\n{table(head, rows)}"


def _rows(here: Measured, others: Sequence[Measured], case: str, width: int) -> list[tuple[str, ...]]:
    figures, names = here.cases[case], list(here.cases)
    absent = [missing(case, why, width) for why in figures["missing"].values()]
    row = figures["rows"].get("scrambled")
    if row is None:
        return absent
    return [(case, f"{row['seconds']:.2f} s", *spread(row, 3), *cells(others, names, case, "scrambled"))]
