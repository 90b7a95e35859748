"""Whoever can run one clip on this machine; those that cannot say why."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.common.bench import THREADS, Bench
from lcve_deploy import SessionOptions, open_session
from lcve_deploy.artifact import EngineKind
from lcve_deploy.errors import LcveError
from lcve_deploy.model.precision import Precision

Logits = npt.NDArray[np.floating[Any]]
Run = Callable[[], Logits]


class UnavailableError(Exception):
    """A contestant that this machine cannot have."""


_MAX_REASON = 200

FAILURES = (UnavailableError, LcveError, ImportError, RuntimeError, OSError, MemoryError)


def reason(error: Exception) -> str:
    """The first line of an error, without the folders of this machine."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"/\S*/", "", line)[:_MAX_REASON]


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One way to run a clip.

    Args:
        key: in the results.
        label: on the page.
        make: prepares it; the callable that comes back gives logits ``[1, classes]`` in the plain order.
    """

    key: str
    label: str
    make: Callable[[Bench], Run]


def ours(bench: Bench, kind: EngineKind, precision: Precision) -> Run:
    session = open_session(bench.server, SessionOptions(engine=bench.engine(kind, precision), threads=THREADS))
    clip, client = bench.encrypted, bench.client
    return lambda: client.plain_order(session.run(clip))


def eager(bench: Bench) -> Run:
    import torch

    return _in_torch(_module(bench), torch.from_numpy(bench.normalised))


def compiled(bench: Bench) -> Run:
    import torch

    return _in_torch(torch.compile(_module(bench)), torch.from_numpy(bench.normalised))


def autocast(bench: Bench) -> Run:
    import torch

    if not cpu_has_bf16():
        raise UnavailableError("this CPU has no bf16")
    run = _in_torch(_module(bench), torch.from_numpy(bench.normalised))

    def in_bf16() -> Logits:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return run()

    return in_bf16


def exported_in_onnxruntime(bench: Bench) -> Run:
    session, clip = onnxruntime_session(bench.plain_export), bench.normalised
    feed = {session.get_inputs()[0].name: clip}
    return lambda: np.asarray(session.run(None, feed)[0])


def exported_in_openvino(bench: Bench) -> Run:
    import openvino

    wanted = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": str(THREADS)}
    request = openvino.Core().compile_model(bench.plain_export, "CPU", wanted).create_infer_request()
    clip = bench.normalised
    return lambda: np.array(request.infer({0: clip})[0])


def onnxruntime_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def cpu_has_bf16() -> bool:
    """As the kernel lists it (avx512_bf16, amx_bf16, bf16); False where there is no such list."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return "bf16" in flags


def _module(bench: Bench) -> Any:
    import torch

    from benchmarks.common.models import videomae

    torch.set_num_threads(THREADS)
    return videomae(bench.size)


def _in_torch(module: Any, clip: Any) -> Run:
    import torch

    def run() -> Logits:
        with torch.inference_mode():
            logits: Logits = module(clip).float().numpy()
        return logits

    return run


_NAMES = {EngineKind.ONNXRUNTIME: "ONNX Runtime", EngineKind.OPENVINO: "OpenVINO"}
_ENGINES = (
    (EngineKind.ONNXRUNTIME, Precision.FP32),
    (EngineKind.ONNXRUNTIME, Precision.INT8),
    (EngineKind.OPENVINO, Precision.FP32),
    (EngineKind.OPENVINO, Precision.BF16),
    (EngineKind.OPENVINO, Precision.INT8),
)

CONTESTANTS = (
    *(
        Contestant(
            key=f"ours-{kind}-{precision}",
            label=f"this package, {_NAMES[kind]} {precision}",
            make=partial(ours, kind=kind, precision=precision),
        )
        for kind, precision in _ENGINES
    ),
    Contestant(key="eager-fp32", label="PyTorch eager fp32", make=eager),
    Contestant(key="compile-fp32", label="torch.compile fp32", make=compiled),
    Contestant(key="eager-bf16", label="PyTorch bf16 autocast", make=autocast),
    Contestant(
        key="exported-onnxruntime-fp32",
        label="torch.onnx.export, ONNX Runtime fp32",
        make=exported_in_onnxruntime,
    ),
    Contestant(key="exported-openvino-fp32", label="torch.onnx.export, OpenVINO fp32", make=exported_in_openvino),
)
"""Our session in float32 comes first: all others are measured against it."""
