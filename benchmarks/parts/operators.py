"""Where the time of a clip goes in ONNX Runtime, by operator, as its profiler counts it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import Turns
from benchmarks.common.summary import Figures
from benchmarks.common.tables import paragraph, table
from benchmarks.records import Measured
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.model.precision import Precision

TITLE = "Where the time of a clip goes"
CASES = tuple(Case(name=name, compares=False) for name in (Precision.FP32, Precision.INT8))
_LARGE = 0.01
"""Share of the time from which an operator has a row."""


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    """Milliseconds of a clip by operator; the first clip, which warms up, does not count."""
    options = SessionOptions(engine=bench.engine(EngineKind.ONNXRUNTIME, Precision(case)), threads=THREADS)
    with _profiled(str(bench.work / f"profile-{case}")) as opened:
        session = open_session(bench.server, options)
    for _ in range(1 + turns.rounds):
        session.run(bench.encrypted)
    profile = Path(opened[-1].end_profiling())
    found = _milliseconds(json.loads(profile.read_text(encoding="utf-8")), turns.rounds)
    profile.unlink()
    return found


@contextmanager
def _profiled(prefix: str) -> Iterator[list[Any]]:
    """Make ONNX Runtime profile the sessions that are opened in this block, and yield them."""
    import onnxruntime

    opened: list[Any] = []

    def open_profiled(graph: bytes, settings: Any, **others: Any) -> Any:
        settings.enable_profiling, settings.profile_file_prefix = True, prefix
        opened.append(inner(graph, settings, **others))
        return opened[-1]

    inner = onnxruntime.InferenceSession
    with mock.patch.object(onnxruntime, "InferenceSession", open_profiled):
        yield opened


def _milliseconds(events: list[dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Return the mean of the last runs: the ``whole`` and each operator, in milliseconds."""
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[-rounds:]
    operators: dict[str, float] = defaultdict(float)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= runs[0][0]:
            operators[event["args"]["op_name"]] += event["dur"] / 1e3 / rounds
    return {"whole": sum(took for _, took in runs) / 1e3 / rounds, "operators": dict(operators)}


def section(here: Measured, _: Sequence[Measured]) -> str:
    text = paragraph(
        "Shares of the time of a clip in this package's session in ONNX Runtime, as its profiler counts them, which",
        "itself takes time. Products of two activations, which int8 does not quantise, are part of the attention.",
    )
    return "\n\n".join((text, *(_table(case, figures) for case, figures in here.cases.items())))


def _table(case: str, figures: Figures) -> str:
    found = figures["found"]
    whole = median(process["whole"] for process in found)
    names = dict.fromkeys(name for process in found for name in process["operators"])
    times = {name: median(process["operators"].get(name, 0.0) for process in found) for name in names}
    large = sorted((name for name in names if times[name] >= _LARGE * whole), key=lambda name: -times[name])
    rest = whole - sum(times[name] for name in large)
    rows = [(f"`{name}`", f"{times[name]:.0f} ms", f"{times[name] / whole:.0%}") for name in large]
    last = ("all others", f"{rest:.0f} ms", f"{rest / whole:.0%}")
    return table((f"operator, {case}", f"of {whole:.0f} ms", "share"), (*rows, last))
