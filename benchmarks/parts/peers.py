"""One clip through every contestant, all in turn, with the same threads."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.contestants import CONTESTANTS, FAILURES, Run, reason
from benchmarks.common.measure import PAUSE, ratio, take_turns
from benchmarks.common.processes import say
from benchmarks.common.tables import interval, paragraph, table

TITLE = "Against peers"


def measure(bench: Bench) -> dict[str, Any]:
    runs, missing = _prepare(bench)
    reference = next(iter(runs))
    answers = {key: run() for key, run in runs.items()}
    say(f"  {len(runs)} contestants, {bench.pairs} rounds")
    times = take_turns(runs, rounds=bench.pairs, warm_up=0, pause=PAUSE)
    labels = {contestant.key: contestant.label for contestant in CONTESTANTS}
    return {
        "rounds": bench.pairs,
        "threads": THREADS,
        "contestants": {
            key: {
                "label": labels[key],
                **asdict(ratio(times[reference], times[key])),
                "difference": float(np.abs(answers[key] - answers[reference]).max()),
            }
            for key in runs
        },
        "missing": {key: {"label": labels[key], "reason": reason} for key, reason in missing.items()},
    }


def _prepare(bench: Bench) -> tuple[dict[str, Run], dict[str, str]]:
    """Those that answer, and the reasons of the others; the first answer is part of the preparation."""
    runs, missing = {}, {}
    for contestant in CONTESTANTS:
        say(f"  preparing {contestant.label}")
        try:
            run = contestant.make(bench)
            run()
        except FAILURES as error:
            missing[contestant.key] = reason(error)
        else:
            runs[contestant.key] = run
    return runs, missing


def section(figures: dict[str, Any]) -> str:
    rows = [
        (c["label"], f"{c['second']:.2f} s", f"{c['ratio']:.2f}", interval(c), f"{c['difference']:.1g}")
        for c in sorted(figures["contestants"].values(), key=lambda c: c["ratio"])
    ]
    missing = [(m["label"], "-", "-", "-", m["reason"]) for m in figures["missing"].values()]
    text = paragraph(
        f"One clip, {figures['threads']} threads each, {figures['rounds']} rounds in which all contestants take",
        "turns. The ratio is to this package's session in ONNX Runtime, float32, within each round. Contestants of",
        "one precision compute the same function of the same clip, as the last column shows. The plain models get",
        "float clips that were normalised before the timing started.",
    )
    head = ("what", "latency", "ratio", "quartiles", "max |Δlogit| from this package fp32")
    return f"{text}\n\n{table(head, [*rows, *missing])}"
