"""How much of the machine's matrix products the inference gets."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.common.bench import THREADS, Bench
from benchmarks.common.contestants import FAILURES, reason
from benchmarks.common.flops import clip_flops
from benchmarks.common.measure import PAUSE, Work, take_turns
from benchmarks.common.processes import say
from benchmarks.common.products import LIBRARIES, graph_of
from benchmarks.common.tables import paragraph, table
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.model.transformer import TransformerConfig

TITLE = "Share of the machine's matrix-product peak"


_SQUARE = 2048
_ROUNDS = 10
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


def measure(bench: Bench) -> dict[str, Any]:
    config = bench.transformer.config
    session = open_session(bench.server, SessionOptions(threads=THREADS))
    products, missing = _products(bench.work, shapes(config))
    works: dict[str, Work] = {
        "inference": lambda: session.run(bench.encrypted),
        **{name: _repeated(product) for name, product in products.items()},
    }
    say("  products of every library, and the inference, in turn")
    times = take_turns(works, rounds=min(_ROUNDS, bench.pairs), pause=PAUSE)
    medians = {name: median(seconds) for name, seconds in times.items()}
    rates = _rates(medians, shapes(config))
    best = max((rate, library, shape) for library, row in rates.items() for shape, rate in row.items())
    achieved = clip_flops(config) / medians["inference"]
    return {
        "rounds": min(_ROUNDS, bench.pairs),
        "threads": THREADS,
        "flop": clip_flops(config),
        "inference_seconds": medians["inference"],
        "achieved": achieved,
        "peak": best[0],
        "peak_library": best[1],
        "peak_shape": best[2],
        "share": achieved / best[0],
        "rates": rates,
        "missing": missing,
    }


def _products(work: Path, sizes: dict[str, tuple[int, int, int]]) -> tuple[dict[str, Work], dict[str, str]]:
    rng = np.random.default_rng(0)
    products, missing = {}, {}
    for shape, (rows, inner, columns) in sizes.items():
        left = rng.standard_normal((rows, inner), dtype=np.float32)
        right = rng.standard_normal((inner, columns), dtype=np.float32)
        graph = graph_of(work / f"product_{shape}.onnx", right)
        for library, make in LIBRARIES.items():
            try:
                products[f"{library}/{shape}"] = make(left, right, graph)
            except FAILURES as error:
                missing[library] = reason(error)
    return products, missing


def _repeated(product: Work) -> Work:
    """Several in a row, as in an inference."""

    def several() -> None:
        for _ in range(_IN_A_ROW):
            product()

    return several


def _rates(medians: dict[str, float], sizes: dict[str, tuple[int, int, int]]) -> dict[str, dict[str, float]]:
    """Operations a second by library and shape."""
    rates: dict[str, dict[str, float]] = {}
    for name in medians:
        library, _, shape = name.partition("/")
        if shape:
            rows, inner, columns = sizes[shape]
            rates.setdefault(library, {})[shape] = _IN_A_ROW * 2 * rows * inner * columns / medians[name]
    return rates


def section(figures: dict[str, Any]) -> str:
    names = list(next(iter(figures["rates"].values())))
    rows = [(library, *(f"{row[shape] / 1e9:.0f}" for shape in names)) for library, row in figures["rates"].items()]
    missing = [(library, reason, *[""] * (len(names) - 1)) for library, reason in figures["missing"].items()]
    text = paragraph(
        f"Float32 products in GFLOP/s, {figures['threads']} threads, medians of {figures['rounds']} rounds in which",
        f"the products, {_IN_A_ROW} of a kind in a row, and the inference take turns: a square of {_SQUARE}, and the",
        "products of a block. All write into existing memory.",
    )
    share = paragraph(
        f"One clip is {figures['flop'] / 1e9:.0f} GFLOP of matrix products (`benchmarks/common/flops.py`) and takes",
        f"{figures['inference_seconds']:.2f} s in ONNX Runtime, so {figures['achieved'] / 1e9:.0f} GFLOP/s:",
        f"**{figures['share']:.0%}** of the best rate seen ({figures['peak'] / 1e9:.0f} GFLOP/s,",
        f"{figures['peak_library']}, {figures['peak_shape']}).",
        "The rest is softmax, GELU, LayerNorm and moving data.",
    )
    return f"{text}\n\n{table(('library', *names), [*rows, *missing])}\n\n{share}"
