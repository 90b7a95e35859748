"""What the key costs on the server: every engine against the same engine of the plain model."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.measure import PAUSE, Ratio, interleaved, seconds
from benchmarks.common.plain import plain_cubes
from benchmarks.common.processes import say
from benchmarks.common.tables import interval, number, paragraph, table
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.model.precision import Precision

TITLE = "What the key costs on the server"

ENGINES = tuple(
    (kind, precision)
    for kind in (EngineKind.ONNXRUNTIME, EngineKind.OPENVINO)
    for precision in (Precision.FP32, Precision.INT8, Precision.FP16, Precision.BF16)
)
_GOAL = 1.02
_MAX_SECONDS = 15.0


class TooSlowError(Exception):
    """An engine that nobody would use on this machine."""


def measure(bench: Bench) -> dict[str, Any]:
    engines, missing = {}, {}
    for kind, precision in ENGINES:
        name = f"{kind}-{precision}"
        say(f"  {name}: scrambled against plain")
        try:
            engines[name] = asdict(_compare(bench, kind, precision))
        except (*FAILURES, TooSlowError) as error:
            missing[name] = reason(error)
    return {"goal": _GOAL, "pairs": bench.pairs, "threads": THREADS, "engines": engines, "missing": missing}


def _compare(bench: Bench, kind: EngineKind, precision: Precision) -> Ratio:
    ours = open_session(bench.server, SessionOptions(engine=bench.engine(kind, precision), threads=THREADS))
    took = seconds(lambda: ours.run(bench.encrypted))
    if took > _MAX_SECONDS:
        raise TooSlowError(f"one clip takes {took:.0f} s here")
    plain = open_session(
        bench.plain_server, SessionOptions(engine=bench.plain_engine(kind, precision), threads=THREADS)
    )
    cubes = plain_cubes(bench.clip, bench.plain_server)
    return interleaved(lambda: plain.run(cubes), lambda: ours.run(bench.encrypted), pairs=bench.pairs, pause=PAUSE)


def section(figures: dict[str, Any]) -> str:
    rows = [
        (name, f"{e['second']:.2f} s", number(e["ratio"]), interval(e, 3)) for name, e in figures["engines"].items()
    ]
    missing = [(name, "-", "-", reason) for name, reason in figures["missing"].items()]
    text = paragraph(
        "Each engine of the scrambled model, compared with the same engine built from an export of the same model",
        f"without a key: {figures['pairs']} interleaved pairs, {figures['threads']} threads. Goal: at most",
        f"{figures['goal']}.",
    )
    head = ("engine", "latency, scrambled", "scrambled over plain", "quartiles")
    return f"{text}\n\n{table(head, [*rows, *missing])}"
