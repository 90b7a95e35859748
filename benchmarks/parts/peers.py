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
**What would a user pick instead, and why.** Without a key, by what the table shows:

- *OpenVINO* if the model only has to run on x86 CPUs: it is the fastest in float32 on a CPU with AVX-512, and with bf16
  where the CPU has it and the error in the last column is acceptable. Its own conversion and the file of
  torch.onnx.export are equally fast. This package runs the encrypted model in OpenVINO too, at the same speed.
- *torch.onnx.export with ONNX Runtime* if one file has to run on many kinds of hardware: the nearest alternative to
  this package's default. optimum-onnx writes such a file too, but knows no VideoMAE: its configuration was written for
  this comparison.
- *PyTorch* (eager, torch.compile, AOTInductor) if the model's code still changes: nothing has to be converted. Its
  speed depends on the CPU: close to ours with AVX2 alone, about half with AVX-512. Compiling gains little for this
  model, whose time is in matrix products.
- *ExecuTorch* for an app on a phone. Its 1.5 has no 3D convolution, so the embedding was written as a matrix product.

None of them takes encrypted clips. This package is for those who want that, and the table shows what it costs."""


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
