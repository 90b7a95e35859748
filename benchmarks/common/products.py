"""Products of matrices in every library, on the CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import THREADS
from benchmarks.common.contestants import UnavailableError, onnxruntime_session
from benchmarks.common.devices import DTYPES, torch_device
from benchmarks.common.measure import Work, seconds
from lcve_deploy.model.precision import Precision

Matrix = npt.NDArray[np.float32]

_SQUARES = {"cuda": 8192, "cpu": 512}
_TIMES = 10


def graph_of(path: Path, right: Matrix) -> Path:
    """A single MatMul by a constant, which runtimes may lay out as they like."""
    import onnx_ir as ir

    left = ir.Value(name="left", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", len(right)]))
    weight = ir.Value(name="right", const_value=ir.tensor(right, name="right"))
    product = ir.node("MatMul", [left, weight])
    product.outputs[0].name, product.outputs[0].type = "product", ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph([left], product.outputs, nodes=[product], initializers=[weight], opset_imports={"": 20})
    ir.save(ir.Model(graph, ir_version=10), path)
    return path


def _in_torch(left: Matrix, right: Matrix, _: Path) -> Work:
    import torch

    torch.set_num_threads(THREADS)
    a, b, out = torch.from_numpy(left), torch.from_numpy(right), torch.empty(len(left), right.shape[1])
    return lambda: torch.matmul(a, b, out=out)


def _in_numpy(left: Matrix, right: Matrix, _: Path) -> Work:
    out = np.empty((len(left), right.shape[1]), np.float32)
    return lambda: np.matmul(left, right, out=out)


def _in_onnxruntime(left: Matrix, right: Matrix, graph: Path) -> Work:
    from onnxruntime import OrtValue

    session = onnxruntime_session(graph)
    binding = session.io_binding()
    binding.bind_cpu_input("left", left)
    out = OrtValue.ortvalue_from_numpy(np.empty((len(left), right.shape[1]), np.float32))
    binding.bind_ortvalue_output("product", out)
    return lambda: session.run_with_iobinding(binding)


def _in_openvino(left: Matrix, _: Matrix, graph: Path) -> Work:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    request = openvino.Core().compile_model(graph, "CPU", wanted).create_infer_request()
    return lambda: request.infer({0: left})


LIBRARIES: dict[str, Callable[[Matrix, Matrix, Path], Work]] = {
    "PyTorch": _in_torch,
    "NumPy": _in_numpy,
    "ONNX Runtime": _in_onnxruntime,
    "OpenVINO": _in_openvino,
}
"""On the CPU, with a constant right side; each writes into memory that exists already."""


def matmul_peak(device: str, precision: Precision) -> dict[str, Any]:
    """Operations a second of a large square product; float32 without TF32."""
    if precision is Precision.INT8:
        raise UnavailableError("no int8 product of PyTorch or CuPy to compare with")
    size = _SQUARES[device]
    has_torch = torch_device(device) == device
    product = _on_torch_device(size, device, precision) if has_torch else _in_cupy(size, precision)
    product()
    rate = 2 * size**3 / median(seconds(product) for _ in range(_TIMES))
    return {"rate": rate, "library": "PyTorch" if has_torch else "CuPy"}


def _on_torch_device(size: int, device: str, precision: Precision) -> Work:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = (torch.randn(size, size, device=device).to(DTYPES[precision]) for _ in range(2))

    def product() -> None:
        torch.matmul(left, right)
        if device == "cuda":
            torch.cuda.synchronize()

    return product


def _in_cupy(size: int, precision: Precision) -> Work:
    import cupy

    if precision is Precision.BF16:
        raise UnavailableError("CuPy has no bf16, and this PyTorch has no CUDA")
    dtype = {Precision.FP32: cupy.float32, Precision.FP16: cupy.float16}[precision]
    left, right = (cupy.random.standard_normal((size, size), dtype=cupy.float32).astype(dtype) for _ in range(2))

    def product() -> None:
        cupy.matmul(left, right)
        cupy.cuda.get_current_stream().synchronize()

    return product
