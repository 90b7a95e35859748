"""What moves the speed of a session from one process to the next, and whether a setting of a process steadies it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.contestants import onnxruntime_session
from benchmarks.common.measure import PAUSE, Turns, Work
from benchmarks.common.summary import Figures
from benchmarks.common.tables import paragraph, spread, table
from benchmarks.records import Measured
from lcve_deploy import SessionOptions, open_session

TITLE = "What differs between processes"
_PROCESSES = 8


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One way to run a process.

    Args:
        title: on the page.
        prefix: command that starts the process.
        mapped: whether this package's session maps its weights.
        plain_first: whether the plain session is opened first.
    """

    title: str
    prefix: tuple[str, ...] = ()
    mapped: bool = True
    plain_first: bool = False


SETTINGS = {
    "default": Setting(title="as it is: weights mapped, this package's session opened first"),
    "plain-first": Setting(title="the plain session opened first", plain_first=True),
    "read": Setting(title="weights read into memory, and not mapped", mapped=False),
    "addresses": Setting(title="the same addresses in every process (`setarch -R`)", prefix=("setarch", "-R")),
    "huge-pages": Setting(
        title="huge pages for `malloc` (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`)",
        prefix=("env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"),
    ),
}
CASES = tuple(
    Case(name=name, processes=_PROCESSES, prefix=setting.prefix, compares=False) for name, setting in SETTINGS.items()
)


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    setting = SETTINGS[case]
    openers = {"plain": _plain, "ours": _ours}
    names = ("plain", "ours") if setting.plain_first else ("ours", "plain")
    opened = {name: openers[name](bench, setting) for name in names}
    times = turns.take({name: opened[name] for name in openers}, pause=PAUSE)
    return {"times": times, "medians": {name: median(seconds) for name, seconds in times.items()}}


def _plain(bench: Bench, _: Setting) -> Work:
    session = onnxruntime_session(bench.plain_export)
    feed = {session.get_inputs()[0].name: bench.normalised}
    return lambda: session.run(None, feed)


def _ours(bench: Bench, setting: Setting) -> Work:
    session = open_session(bench.server, SessionOptions(threads=THREADS, mapped=setting.mapped))
    clip = bench.encrypted
    return lambda: session.run(clip)


def section(here: Measured, _: Sequence[Measured]) -> str:
    rows = [_row(setting.title, here.cases[case]) for case, setting in SETTINGS.items() if case in here.cases]
    text = paragraph(
        "This package's session and a plain torch.onnx.export, both in ONNX Runtime in float32, as in the table of",
        "peers, in processes that differ in one setting. Seconds are the lowest and the highest median of a process.",
    )
    head = ("processes", "this package", "torch.onnx.export", "ratio", "quartiles", "lowest to highest", "rounds")
    return f"{text}\n\n{table(head, rows)}"


def _row(title: str, figures: Figures) -> tuple[str, ...]:
    medians = [process["medians"] for process in figures["found"]]
    seconds = (_range([one[name] for one in medians]) for name in ("ours", "plain"))
    return (title, *seconds, *spread(figures["rows"]["ours"], 3))


def _range(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.3f} to {max(seconds):.3f} s"
