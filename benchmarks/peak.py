"""How much of the machine's matrix products the inference gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from bench import THREADS, Bench, say
from contestants import FAILURES, onnxruntime_session, reason
from flops import clip_flops
from measure import PAUSE, take_turns
from tables import paragraph, table

from lcve_deploy import SessionOptions, open_session
from lcve_deploy.model.transformer import TransformerConfig

TITLE = "Share of the machine's matrix-product peak"

Matrix = npt.NDArray[np.float32]
Product = Callable[[], object]

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
    works: dict[str, Callable[[], object]] = {
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


def _products(work: Path, sizes: dict[str, tuple[int, int, int]]) -> tuple[dict[str, Product], dict[str, str]]:
    rng = np.random.default_rng(0)
    products, missing = {}, {}
    for shape, (rows, inner, columns) in sizes.items():
        left = rng.standard_normal((rows, inner), dtype=np.float32)
        right = rng.standard_normal((inner, columns), dtype=np.float32)
        graph = _graph(work / f"product_{shape}.onnx", right)
        for library, make in _LIBRARIES.items():
            try:
                products[f"{library}/{shape}"] = make(left, right, graph)
            except FAILURES as error:
                missing[library] = reason(error)
    return products, missing


def _repeated(product: Product) -> Product:
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


def _graph(path: Path, right: Matrix) -> Path:
    """A single MatMul by a constant, which runtimes may lay out as they like."""
    import onnx_ir as ir

    left = ir.Value(name="left", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", len(right)]))
    weight = ir.Value(name="right", const_value=ir.tensor(right, name="right"))
    product = ir.node("MatMul", [left, weight])
    product.outputs[0].name, product.outputs[0].type = "product", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([left], product.outputs, nodes=[product], initializers=[weight], opset_imports={"": 20})
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


def _in_torch(left: Matrix, right: Matrix, _: Path) -> Product:
    import torch

    torch.set_num_threads(THREADS)
    a, b, out = torch.from_numpy(left), torch.from_numpy(right), torch.empty(len(left), right.shape[1])
    return lambda: torch.matmul(a, b, out=out)


def _in_numpy(left: Matrix, right: Matrix, _: Path) -> Product:
    out = np.empty((len(left), right.shape[1]), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _in_onnxruntime(left: Matrix, right: Matrix, graph: Path) -> Product:
    from onnxruntime import OrtValue

    session = onnxruntime_session(graph)
    binding = session.io_binding()
    binding.bind_cpu_input("left", left)
    out = OrtValue.ortvalue_from_numpy(np.empty((len(left), right.shape[1]), np.float32))
    binding.bind_ortvalue_output("product", out)
    return lambda: session.run_with_iobinding(binding)


def _in_openvino(left: Matrix, _: Matrix, graph: Path) -> Product:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    request = openvino.Core().compile_model(graph, "CPU", wanted).create_infer_request()
    return lambda: request.infer({0: left})


_LIBRARIES: dict[str, Callable[[Matrix, Matrix, Path], Product]] = {
    "PyTorch": _in_torch,
    "NumPy": _in_numpy,
    "ONNX Runtime": _in_onnxruntime,
    "OpenVINO": _in_openvino,
}


def section(figures: dict[str, Any]) -> str:
    names = list(next(iter(figures["rates"].values())))
    rows = [(library, *(f"{row[shape] / 1e9:.0f}" for shape in names)) for library, row in figures["rates"].items()]
    missing = [(library, reason, *[""] * (len(names) - 1)) for library, reason in figures["missing"].items()]
    text = paragraph(
        f"Float32 products in GFLOP/s, {figures['threads']} threads, medians of {figures['rounds']} rounds in which",
        f"the products, {_IN_A_ROW} of a kind in a row, and the inference take turns: a square of {_SQUARE}, and the",
        "products of a block. All write into memory that exists already.",
    )
    share = paragraph(
        f"One clip is {figures['flop'] / 1e9:.0f} GFLOP of matrix products (`benchmarks/flops.py`) and takes",
        f"{figures['inference_seconds']:.2f} s in ONNX Runtime, so {figures['achieved'] / 1e9:.0f} GFLOP/s:",
        f"**{figures['share']:.0%}** of the best rate seen ({figures['peak'] / 1e9:.0f} GFLOP/s,",
        f"{figures['peak_library']}, {figures['peak_shape']}).",
        "The rest is softmax, GELU, LayerNorm and moving data.",
    )
    return f"{text}\n\n{table(('library', *names), [*rows, *missing])}\n\n{share}"
