"""How much of the machine's matrix products the inference gets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.cases import Case
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import PAUSE, Turns, Work
from benchmarks.common.pages import missing
from benchmarks.common.processes import say
from benchmarks.common.products import LIBRARIES, graph_of
from benchmarks.common.summary import Figures
from benchmarks.common.tables import paragraph, table
from benchmarks.records import Measured
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.model.transformer import TransformerConfig

TITLE = "Share of the machine's matrix-product peak"
CASES = (Case(name="products"),)
_SQUARE = 2048
_IN_A_ROW = 5


def shapes(config: TransformerConfig) -> dict[str, tuple[int, int, int]]:
    """Rows, inner size and columns: a large square, and the products of a block."""
    n, d, h = config.tokens, config.width, config.hidden
    return {
        "square": (_SQUARE, _SQUARE, _SQUARE),
        "qkv": (n, d, 3 * d),
        "projection": (n, d, d),
        "fc1": (n, d, h),
        "fc2": (n, h, d),
    }


def measure(bench: Bench, _: str, turns: Turns) -> dict[str, Any]:
    config = bench.transformer.config
    session = open_session(bench.server, SessionOptions(threads=THREADS))
    products, reasons = _products(bench.work, shapes(config))
    works: dict[str, Work] = {
        "inference": lambda: session.run(bench.encrypted),
        **{name: _repeated(product) for name, product in products.items()},
    }
    say("  products of every library, and the inference, in turn")
    times = turns.take(works, pause=PAUSE)
    return {"times": times, "missing": reasons, "flop": clip_flops(config), "shapes": shapes(config)}


def _products(work: Path, sizes: dict[str, tuple[int, int, int]]) -> tuple[dict[str, Work], dict[str, str]]:
    rng = np.random.default_rng(0)
    products, reasons = {}, {}
    for shape, (rows, inner, columns) in sizes.items():
        left = rng.standard_normal((rows, inner), dtype=np.float32)
        right = rng.standard_normal((inner, columns), dtype=np.float32)
        graph = graph_of(work / f"product_{shape}.onnx", right)
        for library, make in LIBRARIES.items():
            try:
                products[f"{library}/{shape}"] = make(left, right, graph)
            except FAILURES as error:
                reasons[library] = reason(error)
    return products, reasons


def _repeated(product: Work) -> Work:
    """Several in a row, as in an inference."""

    def several() -> None:
        for _ in range(_IN_A_ROW):
            product()

    return several


def rates(figures: Figures) -> dict[str, dict[str, float]]:
    """Operations a second by library and shape."""
    found: dict[str, dict[str, float]] = {}
    for name, row in figures["rows"].items():
        library, _, shape = name.partition("/")
        if shape:
            found.setdefault(library, {})[shape] = _flop(figures, shape) / row["seconds"]
    return found


def _flop(figures: Figures, shape: str) -> float:
    """Operations of the products of one shape that are timed together."""
    return float(_IN_A_ROW * 2 * math.prod(figures["found"][0]["shapes"][shape]))


def section(here: Measured, _: Sequence[Measured]) -> str:
    figures = here.cases["products"]
    seen = rates(figures)
    names = list(next(iter(seen.values())))
    rows = [(library, *(f"{row[shape] / 1e9:.0f}" for shape in names)) for library, row in seen.items()]
    absent = [missing(library, why, len(names) + 1) for library, why in figures["missing"].items()]
    inference = figures["rows"]["inference"]
    text = paragraph(
        f"Float32 products in GFLOP/s, {THREADS} threads, medians of {inference['rounds']} rounds in",
        f"{inference['processes']} processes, in which the products, {_IN_A_ROW} of a kind in a row, and the inference",
        f"take turns: a square of {_SQUARE}, and the products of a block. All write into existing memory.",
    )
    return f"{text}\n\n{table(('library', *names), [*rows, *absent])}\n\n{_share(figures, seen)}"


def _share(figures: Figures, seen: dict[str, dict[str, float]]) -> str:
    """The inference's rate over the best of the products, with its spread between processes."""
    best, library, shape = max((rate, library, shape) for library, row in seen.items() for shape, rate in row.items())
    flop, inference = figures["found"][0]["flop"], figures["rows"]["inference"]["seconds"]
    row = figures["rows"][f"{library}/{shape}"]
    ratios = (row["ratio"], row["lowest"], row["highest"])
    share, lowest, highest = (flop * ratio / _flop(figures, shape) for ratio in ratios)
    return paragraph(
        f"One clip is {flop / 1e9:.0f} GFLOP of matrix products (`benchmarks/common/flops.py`) and takes",
        f"{inference:.2f} s in ONNX Runtime, so {flop / inference / 1e9:.0f} GFLOP/s: **{share:.0%}** of the best",
        f"rate seen ({best / 1e9:.0f} GFLOP/s, {library}, {shape}), in single processes {lowest:.0%} to {highest:.0%}.",
        "The rest is softmax, GELU, LayerNorm and moving data.",
    )
