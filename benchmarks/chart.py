"""``docs/evidence/benchmarks.svg``: latency by runtime, and its scaling. The same figures give the same file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.common.bench import THREADS
from benchmarks.common.contestants import BY_KEY
from benchmarks.parts.scaling import AXES, latency
from benchmarks.records import Measured, Records

_OURS, _PEERS = "#0072B2", "#E69F00"  # of Okabe and Ito's palette, told apart by all eyes
_GREY = "#555555"
_COLOURS = {"ours": _OURS, "plain": _PEERS}


def write_chart(records: Records, path: Path) -> None:
    """Draw the newest machine's figures: peers above, scaling below if it was measured."""
    peers, scaled = records.measured("peers"), records.measured("scaling")
    settings: dict[Any, Any] = {
        "svg.hashsalt": "lcve",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(settings):
        drawn = [
            *((4, partial(_peers, measured)) for measured in peers[:1]),
            *((2, partial(_all_scaling, measured)) for measured in scaled[:1]),
        ]
        heights = [height for height, _ in drawn]
        figure = plt.figure(figsize=(9, 1.3 * sum(heights)), layout="constrained")
        parts: Any = figure.subfigures(len(drawn), 1, height_ratios=heights, squeeze=False)
        for part, (_, draw) in zip(parts[:, 0], drawn, strict=True):
            draw(part)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _peers(measured: Measured, figure: Any) -> None:
    """Bars with quartiles, the slowest on top."""
    panel = figure.subplots()
    rows = sorted(next(iter(measured.cases.values()))["rows"].items(), key=lambda item: -item[1]["ratio"])
    places, ratios = range(len(rows)), [row["ratio"] for _, row in rows]
    spread = [[row["ratio"] - row["low"] for _, row in rows], [row["high"] - row["ratio"] for _, row in rows]]
    colours = [_OURS if key.startswith("ours") else _PEERS for key, _ in rows]
    panel.barh(places, ratios, color=colours, xerr=spread, error_kw={"ecolor": _GREY, "capsize": 2})
    for place, (_, row) in zip(places, rows, strict=True):
        panel.annotate(
            f"{row['ratio']:.2f}  ({row['seconds']:.2f} s)",
            (row["high"], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    panel.set_yticks(places, [BY_KEY[key].label for key, _ in rows])
    panel.axvline(1, color=_GREY, linewidth=0.8, linestyle="--")
    panel.set_xlim(0, 1.2 * max(row["high"] for _, row in rows))
    panel.set_xlabel(f"latency of one clip over that of this package in ONNX Runtime fp32, {THREADS} threads")
    panel.set_title(f"{measured.machine}, {measured.date}", fontsize=8, color=_GREY)


def _all_scaling(measured: Measured, figure: Any) -> None:
    panels = figure.subplots(1, len(AXES))
    for panel, (title, values) in zip(panels, AXES.items(), strict=True):
        _scaling(panel, measured, {value: case for value, case in values.items() if case in measured.cases}, title)
    panels[0].set_ylabel("latency of a clip (s)")
    panels[0].legend(frameon=False, loc="lower left")


def _scaling(panel: Any, measured: Measured, cases: dict[str, str], title: str) -> None:
    names = [value.removeprefix("VideoMAE-") for value in cases]
    for side, label, line in (("ours", "this package", "o-"), ("plain", "torch.onnx.export", "s--")):
        times = [latency(measured, case, side) for case in cases.values()]
        panel.plot(names, times, line, color=_COLOURS[side], label=label)
    panel.set_ylim(bottom=0)
    panel.set_xlabel(title)
    panel.grid(axis="y", linewidth=0.3)
