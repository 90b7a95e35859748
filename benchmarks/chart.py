"""``docs/evidence/benchmarks.svg``: latency by runtime, and its scaling. The same figures give the same file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt

_OURS, _PEERS = "#0072B2", "#E69F00"  # of Okabe and Ito's palette, told apart by all eyes
_GREY = "#555555"
_AXES = {"batch": "clips in a batch", "frames": "frames of a clip", "model": "model size"}


def write_chart(results: dict[str, Any], path: Path) -> None:
    settings: dict[Any, Any] = {
        "svg.hashsalt": "lcve",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(settings):
        figure = plt.figure(figsize=(9, 6.4), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=(3, 2))
        top, bottom = halves
        _peers(top.subplots(), results["peers"]["figures"])
        panels = bottom.subplots(1, len(_AXES))
        for panel, (axis, title) in zip(panels, _AXES.items(), strict=True):
            _scaling(panel, results["scaling"]["figures"][axis], title)
        panels[0].set_ylabel("latency of a clip (s)")
        panels[0].legend(frameon=False, loc="lower left")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def _peers(panel: Any, figures: dict[str, Any]) -> None:
    """Bars with quartiles, the slowest on top."""
    rows = sorted(figures["contestants"].items(), key=lambda item: -item[1]["ratio"])
    places, ratios = range(len(rows)), [row["ratio"] for _, row in rows]
    spread = [[row["ratio"] - row["low"] for _, row in rows], [row["high"] - row["ratio"] for _, row in rows]]
    colours = [_OURS if key.startswith("ours") else _PEERS for key, _ in rows]
    panel.barh(places, ratios, color=colours, xerr=spread, error_kw={"ecolor": _GREY, "capsize": 2})
    for place, (_, row) in zip(places, rows, strict=True):
        panel.annotate(
            f"{row['ratio']:.2f}  ({row['second']:.2f} s)",
            (row["high"], place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )
    panel.set_yticks(places, [row["label"] for _, row in rows])
    panel.axvline(1, color=_GREY, linewidth=0.8, linestyle="--")
    panel.set_xlim(0, 1.2 * max(row["high"] for _, row in rows))
    panel.set_xlabel(
        f"latency of one clip over that of this package in ONNX Runtime fp32, {figures['threads']} threads"
    )


def _scaling(panel: Any, rows: dict[str, Any], title: str) -> None:
    names = [name.removeprefix("VideoMAE-") for name in rows]
    for side, label, colour, marker in (
        ("second", "this package", _OURS, "o"),
        ("first", "torch.onnx.export", _PEERS, "s"),
    ):
        line = "--" if side == "first" else "-"
        panel.plot(names, [row[side] for row in rows.values()], line, marker=marker, color=colour, label=label)
    panel.set_ylim(bottom=0)
    panel.set_xlabel(title)
    panel.grid(axis="y", linewidth=0.3)
