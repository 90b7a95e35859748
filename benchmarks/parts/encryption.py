"""Encrypting one clip against copying its bytes; NumPy's indexing uses one thread."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.measure import interleaved, seconds
from benchmarks.common.tables import interval, number, paragraph, table
from lcve_deploy import PlainClip, SessionOptions, encrypt, open_session
from lcve_deploy.clips import Layout

TITLE = "Encryption against copying"

_GOAL = 30
_OF_INFERENCE = 0.003


def measure(bench: Bench) -> dict[str, Any]:
    clip, orders, pairs = bench.clip, bench.client.orders, 10 * bench.pairs
    plain, target = PlainClip(values=clip), np.empty_like(bench.clip)
    ratios = {
        f"{layout}_over_copy": interleaved(
            clip.copy, partial(encrypt, plain, orders, layout=layout), pairs=pairs, warm_up=5
        )
        for layout in Layout
    }
    ratios["cubes_over_copy_in_place"] = interleaved(
        lambda: np.copyto(target, clip), lambda: encrypt(plain, orders), pairs=pairs, warm_up=5
    )
    session = open_session(bench.server, SessionOptions(threads=THREADS))
    inference = sorted(seconds(lambda: session.run(bench.encrypted)) for _ in range(bench.few))[bench.few // 2]
    return {
        "pairs": pairs,
        "goal": _GOAL,
        **{name: asdict(ratio) for name, ratio in ratios.items()},
        "inference_seconds": inference,
        "over_inference": ratios["cubes_over_copy"].second / inference,
        "goal_over_inference": _OF_INFERENCE,
    }


def section(figures: dict[str, Any]) -> str:
    titles = {
        "cubes_over_copy": ("encrypting over copying the clip, layout `cubes`", f"≤ {figures['goal']}"),
        "video_over_copy": ("encrypting over copying the clip, layout `video`", ""),
        "cubes_over_copy_in_place": ("encrypting over a copy into memory that exists already", ""),
    }
    rows = [
        (title, f"{1e3 * figures[key]['second']:.1f} ms", number(figures[key]["ratio"]), interval(figures[key]), goal)
        for key, (title, goal) in titles.items()
    ]
    share = f"{figures['over_inference']:.2%}"
    rows.append(("encrypting over inference", "", share, "", f"< {figures['goal_over_inference']:.1%}"))
    text = paragraph(
        f"{figures['pairs']} interleaved pairs. Encryption writes into fresh memory, and so does the copy that it is",
        "compared with; the copy into existing memory is the last comparison. Copy and encryption alternate, so",
        "neither finds the cache in the state that it left.",
        "How long a copy takes depends mostly on whether its memory is new to the process, which costs several times",
        "the copy itself; so compare the times, too.",
    )
    return f"{text}\n\n{table(('what', 'time', 'ratio', 'quartiles', 'goal'), rows)}"
