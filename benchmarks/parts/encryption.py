"""Encrypting one clip against copying its bytes; NumPy's indexing uses one thread."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import gathers
from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.measure import PAUSE, Turns, Work
from benchmarks.common.pages import cells, heads
from benchmarks.common.tables import SPREAD, paragraph, spread, table
from benchmarks.records import Measured
from lcve_deploy import PlainClip, SessionOptions, encrypt, open_session
from lcve_deploy.clips import Layout

TITLE = "Encryption against copying"

_ROWS = {
    "cubes_over_copy": ("encrypting over copying the clip, layout `cubes`", "≤ 8"),
    "video_over_copy": ("encrypting over copying the clip, layout `video`", ""),
    "cubes_over_copy_in_place": ("encrypting over a copy into memory that exists already", ""),
    "cubes_over_inference": ("encrypting over inference", "< 0.003"),
}
CASES = tuple(Case(name=name, rounds=4 if "inference" in name else 40) for name in _ROWS)


def measure(bench: Bench, case: str, turns: Turns) -> dict[str, Any]:
    reference, layout = _case(bench, case)
    works: dict[str, Work] = {
        "reference": reference,
        "encrypt": partial(encrypt, PlainClip(values=bench.clip), bench.client.orders, layout=layout),
    }
    return {"times": turns.take(works, warm_up=5, pause=PAUSE if "inference" in case else 0.0)}


def _case(bench: Bench, case: str) -> tuple[Work, Layout]:
    """What encrypting is compared with, and the layout."""
    clip, layout = bench.clip, Layout.VIDEO if "video" in case else Layout.CUBES
    if case == "cubes_over_inference":
        session = open_session(bench.server, SessionOptions(threads=THREADS))
        return lambda: session.run(bench.encrypted), layout
    if case == "cubes_over_copy_in_place":
        target = np.empty_like(clip)
        return lambda: np.copyto(target, clip), layout
    return clip.copy, layout


def section(here: Measured, others: Sequence[Measured]) -> str:
    names = list(_ROWS)
    rows = [
        (
            title,
            f"{1e3 * row['seconds']:.1f} ms",
            *spread(row, _digits(case)),
            goal,
            *cells(others, names, case, "encrypt"),
        )
        for case, (title, goal) in _ROWS.items()
        if case in here.cases
        for row in [here.cases[case]["rows"]["encrypt"]]
    ]
    text = paragraph(
        "Encryption writes into fresh memory, and so does the copy that it is compared with; the copy into existing",
        "memory is another row. Both take turns, so neither finds the cache in the state that it left. How long a copy",
        "takes depends mostly on whether its memory is new to the process; so compare the times, too.",
    )
    measured = table(("what", "time", *SPREAD, "goal", *heads(others, names)), rows)
    return "\n\n".join(part for part in (text, measured, gathers.section()) if part)


def _digits(case: str) -> int:
    return 5 if "inference" in case else 2
