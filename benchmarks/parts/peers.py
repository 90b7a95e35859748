"""One clip through every contestant, all in turn, with the same threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.contestants import BY_KEY, CONTESTANTS, FAILURES, Run, reason
from benchmarks.common.measure import PAUSE, Turns
from benchmarks.common.models import BASE
from benchmarks.common.pages import cells, heads, missing
from benchmarks.common.processes import say
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured

TITLE = "Against peers"
CASES = (Case(name=BASE.name),)
"""Each is a model of ``benchmarks.common.models``."""

_PICKS = """
**What would a user pick instead, and why.** Without a key, and on the CPU that the table is about:

- *torch.compile or AOTInductor* if PyTorch may be installed where the model runs: nothing is converted, and they follow
  any change of the model's code. They bring torch, and compile for minutes or need a compiler once.
- *bf16* (OpenVINO, or autocast under torch.compile) where the CPU has bf16 products and the error in the last column is
  acceptable. OpenVINO runs the encrypted model in bf16 as well, at the same speed.
- *torch.onnx.export with ONNX Runtime* if the model must run without PyTorch and in float32: the nearest alternative to
  this package, whose graph does the same work. optimum-onnx writes such a file as well; it has no configuration for
  VideoMAE, so one was written for this comparison.
- *OpenVINO's own conversion* if the CPU is all that the model will ever run on.
- *ExecuTorch* if the model runs in an app on a phone: on a server, its CPU path is not the fastest.

None of them takes encrypted clips: this package is for those who want that, and costs what the table says."""


def measure(bench: Bench, _: str, turns: Turns) -> dict[str, Any]:
    runs, reasons = _prepare(bench, turns)
    say(f"  {len(runs)} contestants, {turns.rounds} rounds")
    answers = {key: run() for key, run in runs.items()}
    times = turns.take(runs, warm_up=0, pause=PAUSE)
    reference = answers[next(iter(answers))]
    return {
        "times": times,
        "missing": reasons,
        "threads": THREADS,
        "differences": {key: float(np.abs(answer - reference).max()) for key, answer in answers.items()},
    }


def _prepare(bench: Bench, turns: Turns) -> tuple[dict[str, Run], dict[str, str]]:
    """Those that answer, and the reasons of the others; also prepared in an order that changes with the process."""
    runs, reasons = {}, {}
    for key in turns.order(BY_KEY, 0):
        say(f"  preparing {BY_KEY[key].label}")
        try:
            run = BY_KEY[key].make(bench)
            run()
        except FAILURES as error:
            reasons[key] = reason(error)
        else:
            runs[key] = run
    return {c.key: runs[c.key] for c in CONTESTANTS if c.key in runs}, reasons


def section(here: Measured, others: Sequence[Measured]) -> str:
    names = list(here.cases)
    return "\n\n".join((*(_of_model(here, others, name) for name in names), _PICKS.strip()))


def _of_model(here: Measured, others: Sequence[Measured], case: str) -> str:
    figures, names = here.cases[case], list(here.cases)
    found = figures["found"][-1]
    rows = [
        (
            BY_KEY[key].label,
            f"{row['seconds']:.2f} s",
            *spread(row),
            *cells(others, names, case, key),
            f"{found['differences'][key]:.1g}",
        )
        for key, row in sorted(figures["rows"].items(), key=lambda item: item[1]["ratio"])
    ]
    head = ("what", "latency", *SPREAD, *heads(others, names), "max |Δlogit| from this package fp32")
    absent = [missing(BY_KEY[key].label, why, len(head)) for key, why in figures["missing"].items()]
    text = paragraph(
        f"{case}, one clip, {found['threads']} threads each; in every process all contestants are prepared and take",
        "turns, in orders that change. The ratio is to this package's session in ONNX Runtime, float32, within each",
        "round. Contestants of one precision compute the same function of the same clip, as the last column shows. The",
        "plain models get float clips that were normalised before the timing started. ExecuTorch needs libraries of",
        "its own, so it runs in a process of its own, which waits while others run.",
    )
    return f"{text}\n\n{table(head, [*rows, *absent])}"
